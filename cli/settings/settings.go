package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// EnvPrefix begins every environment variable that Orlog reads.
const EnvPrefix = "ORLOG"

// ConfigFlag names the configuration file; ORLOG_CONFIG does too.
const ConfigFlag = "config"

// Settings are a binary's effective values.
type Settings struct {
	v     *viper.Viper
	flags *pflag.FlagSet
	file  string
}

// AddFlags declares --config, with the path that is read where it exists and the user names none.
func AddFlags(flags *pflag.FlagSet, defaultFile string) {
	flags.String(ConfigFlag, "", "configuration file, YAML, keys as the flags are named (default "+defaultFile+" where it exists)")
}

// Load reads the environment and the file behind the parsed flags. Errors name the file and the key.
func Load(flags *pflag.FlagSet, defaultFile string) (*Settings, error) {
	s := &Settings{v: viper.New(), flags: flags}
	s.v.SetEnvPrefix(EnvPrefix)
	s.v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	s.v.AutomaticEnv()
	if err := s.v.BindPFlags(flags); err != nil {
		return nil, err
	}
	if err := s.readFile(defaultFile); err != nil {
		return nil, err
	}
	return s, s.check()
}

// check refuses what a flag would refuse, wherever it comes from: viper reads a text that is no number as 0.
func (s *Settings) check() error {
	var errs []error
	s.flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || s.Source(f.Name) == "default" {
			return
		}
		if _, list := f.Value.(pflag.SliceValue); list {
			return // any text is a list
		}
		value := s.v.GetString(f.Name)
		if err := f.Value.Set(value); err != nil {
			errs = append(errs, fmt.Errorf("%s, from %s: %q is no %s: %w", f.Name, s.Source(f.Name), value, f.Value.Type(), err))
		}
	})
	return errors.Join(errs...)
}

func (s *Settings) readFile(defaultFile string) error {
	file := s.v.GetString(ConfigFlag)
	if file == "" {
		if _, err := os.Stat(defaultFile); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		file = defaultFile
	}
	in := viper.New()
	in.SetConfigFile(file)
	in.SetConfigType("yaml")
	if err := in.ReadInConfig(); err != nil {
		return fmt.Errorf("configuration file %s: %w", file, err)
	}
	var unknown []string
	for _, key := range in.AllKeys() {
		if s.flags.Lookup(key) == nil || key == ConfigFlag {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("configuration file %s: unknown key %s: --help lists the settings", file, strings.Join(unknown, ", "))
	}
	s.file = file
	return s.v.MergeConfigMap(in.AllSettings())
}

// File is the configuration file that was read, "" where none was.
func (s *Settings) File() string { return s.file }

// String returns a setting as text.
func (s *Settings) String(name string) string { return s.v.GetString(name) }

// Bool returns a setting as a truth value.
func (s *Settings) Bool(name string) bool { return s.v.GetBool(name) }

// Int returns a setting as a number.
func (s *Settings) Int(name string) int { return s.v.GetInt(name) }

// Duration returns a setting as a length of time.
func (s *Settings) Duration(name string) time.Duration { return s.v.GetDuration(name) }

// Strings returns a setting as a list. In one text its parts stand between commas, as on the command line.
func (s *Settings) Strings(name string) []string {
	var out []string
	for _, text := range s.v.GetStringSlice(name) { // viper takes a text from the environment for one element
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}

// Source says where a setting's value comes from: "flag", "environment ORLOG_X", "file PATH" or "default".
func (s *Settings) Source(name string) string {
	env := EnvPrefix + "_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	switch {
	case s.flags.Changed(name):
		return "flag"
	case os.Getenv(env) != "":
		return "environment " + env
	case s.v.InConfig(name) && s.file != "":
		return "file " + s.file
	}
	return "default"
}
