package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func load(t *testing.T, file string, args ...string) (*Settings, error) {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.String("data-dir", "/default", "")
	flags.Int("nats-port", 4222, "")
	flags.Duration("event-ttl", 0, "")
	path := filepath.Join(t.TempDir(), "orlogd.yaml")
	AddFlags(flags, path)
	if file != "" {
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Load(flags, path)
}

func TestPrecedence(t *testing.T) {
	check := func(s *Settings, err error, value, source string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if got := s.String("data-dir"); got != value {
			t.Errorf("data-dir = %q, want %q", got, value)
		}
		if got := s.Source("data-dir"); !strings.HasPrefix(got, source) {
			t.Errorf("source = %q, want %q", got, source)
		}
	}
	s, err := load(t, "")
	check(s, err, "/default", "default")
	s, err = load(t, "data-dir: /file\n")
	check(s, err, "/file", "file ")
	t.Setenv("ORLOG_DATA_DIR", "/env")
	s, err = load(t, "data-dir: /file\n")
	check(s, err, "/env", "environment ORLOG_DATA_DIR")
	s, err = load(t, "data-dir: /file\n", "--data-dir=/flag")
	check(s, err, "/flag", "flag")
}

func TestRefusals(t *testing.T) {
	for file, want := range map[string]string{
		"data-dri: /x\n":  "unknown key data-dri",
		"data-dir: [\n":   "configuration file",
		"event-ttl: soon": "no duration",
		"nats-port: many": "nats-port, from file",
	} {
		if _, err := load(t, file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("file %q: error %v, want %q", file, err, want)
		}
	}
	t.Setenv("ORLOG_EVENT_TTL", "2 days")
	if _, err := load(t, ""); err == nil || !strings.Contains(err.Error(), "environment ORLOG_EVENT_TTL") {
		t.Errorf("a bad environment: error %v", err)
	}
	t.Setenv("ORLOG_EVENT_TTL", "48h")
	if s, err := load(t, ""); err != nil || s.Duration("event-ttl") != 48*time.Hour {
		t.Errorf("a duration from the environment: %v", err)
	}
	if _, err := load(t, "", "--config=/no/such/file"); err == nil || !strings.Contains(err.Error(), "/no/such/file") {
		t.Errorf("missing file: error %v", err)
	}
}
