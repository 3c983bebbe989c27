package serviceaccount

import (
	"testing"

	"github.com/orlog-io/orlog/services/loop/looptest"
)

func TestGolden(t *testing.T) {
	looptest.Golden(t, Accounts{}, "testdata/accounts")
	looptest.Golden(t, RootCA{PEM: []byte("new")}, "testdata/rootca")
}
