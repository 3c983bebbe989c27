package settings

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// runConfig runs "orlogd config" of a small binary and returns what it prints.
func runConfig(t *testing.T, file string, check func(*Settings) error, args ...string) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "orlogd.yaml")
	if file != "" {
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root := &cobra.Command{Use: "orlogd", SilenceUsage: true, SilenceErrors: true}
	f := root.PersistentFlags()
	f.String("data-dir", "/var/lib/orlog", "")
	f.String("nats-url", "", "")
	f.Int("nats-replicas", 1, "")
	f.Bool("agent", false, "")
	f.StringSlice("plain-http", nil, "")
	AddFlags(f, path)
	root.AddCommand(NewConfigCommand("orlogd", path, check))
	var out strings.Builder
	root.SetOut(&out)
	root.SetArgs(append([]string{"config"}, args...))
	err := root.Execute()
	return strings.ReplaceAll(out.String(), path, "FILE"), err
}

func TestConfig(t *testing.T) {
	t.Setenv("ORLOG_PLAIN_HTTP", "a:5000,b:5000")
	const file = "nats-url: nats://me:secret@a:4222,nats://token@b:4222\nnats-replicas: 3\n"
	for _, c := range []struct {
		args, want string
	}{
		{"--data-dir /x", `Configuration file: FILE

SETTING         VALUE                                        SOURCE
agent           false                                        default
data-dir        /x                                           flag
nats-replicas   3                                            file FILE
nats-url        nats://me:xxxxx@a:4222,nats://xxxxx@b:4222   file FILE
plain-http      a:5000,b:5000                                environment ORLOG_PLAIN_HTTP
`},
		{"--changed -o yaml", `# file FILE
nats-replicas: 3
# file FILE
nats-url: nats://me:xxxxx@a:4222,nats://xxxxx@b:4222
# environment ORLOG_PLAIN_HTTP
plain-http:
- a:5000
- b:5000
`},
	} {
		got, err := runConfig(t, file, nil, strings.Fields(c.args)...)
		if err != nil || got != c.want {
			t.Errorf("config %s: %v\n%s\nwant\n%s", c.args, err, got, c.want)
		}
	}
}

func TestConfigRefusals(t *testing.T) {
	refuse := func(s *Settings) error { return errors.New("nats-replicas 2: want 1, 3 or 5") }
	out, err := runConfig(t, "", refuse)
	if err == nil || !strings.Contains(err.Error(), "refused at the start") || !strings.Contains(out, "is not there") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := runConfig(t, "", nil, "-o", "xml"); err == nil || !strings.Contains(err.Error(), "yaml or json") {
		t.Error(err)
	}
	if _, err := runConfig(t, "data-dri: /x\n", nil); err == nil || !strings.Contains(err.Error(), "data-dri") {
		t.Error(err)
	}
}
