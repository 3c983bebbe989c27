package protection

import (
	"testing"

	"github.com/orlog-io/orlog/services/loop/looptest"
)

func TestClaims(t *testing.T)  { looptest.Golden(t, Claims{}, "testdata/claims") }
func TestVolumes(t *testing.T) { looptest.Golden(t, Volumes{}, "testdata/volumes") }
func TestClasses(t *testing.T) { looptest.Golden(t, Classes{}, "testdata/classes") }
