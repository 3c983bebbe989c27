package settings

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// Value is one setting as it is in effect.
type Value struct {
	Name string `json:"name"`
	// Value is text, or a list of texts.
	Value any `json:"value"`
	// Source says where the value comes from, as [Settings.Source] does.
	Source string `json:"source"`
}

// Values are all settings by name. Passwords in URLs are left out.
func (s *Settings) Values() []Value {
	var out []Value
	s.flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Name == ConfigFlag {
			return
		}
		v := Value{Name: f.Name, Source: s.Source(f.Name)}
		switch f.Value.Type() {
		case "stringSlice", "stringArray":
			list := []string{}
			for _, e := range s.Strings(f.Name) {
				list = append(list, withoutPassword(e))
			}
			v.Value = list
		case "bool":
			v.Value = s.Bool(f.Name)
		case "int":
			v.Value = s.Int(f.Name)
		default:
			v.Value = withoutPassword(s.String(f.Name))
		}
		out = append(out, v)
	})
	return out
}

// withoutPassword masks the passwords in comma-separated URLs: nats://me:secret@host.
func withoutPassword(text string) string {
	if !strings.Contains(text, "@") || !strings.Contains(text, "://") {
		return text
	}
	parts := strings.Split(text, ",")
	for i, p := range parts {
		u, err := url.Parse(strings.TrimSpace(p))
		if err != nil {
			parts[i] = "(hidden: it holds an @ and is no URL)"
		} else if u.User != nil {
			parts[i] = u.Redacted()
			if _, has := u.User.Password(); !has { // a token: all of it is the secret
				u.User = url.User("xxxxx")
				parts[i] = u.String()
			}
		}
	}
	return strings.Join(parts, ",")
}

// NewConfigCommand makes the command "config" of a binary whose settings are its persistent flags: it prints
// what is in effect and where each value comes from. check, which may be nil, is what the binary itself does
// with its settings at its start; its error is the command's.
func NewConfigCommand(binary, defaultFile string, check func(*Settings) error) *cobra.Command {
	var output string
	var changed bool
	c := &cobra.Command{
		Use:   "config",
		Short: "Print the settings in effect, and where each comes from",
		Long: fmt.Sprintf(`Print the settings that %s would start with here, and where each comes from: a flag, the environment, the
configuration file (%s unless --config names another) or the default. Fails where %s
would refuse them. Passwords in URLs are not shown.`, binary, defaultFile, binary),
		Example: fmt.Sprintf(`  # What is in effect, and why
  %[1]s config

  # What the environment and a file would change
  ORLOG_LOG_LEVEL=debug %[1]s config --config ./%[1]s.yaml --changed

  # A configuration file of everything that is set now
  %[1]s config --changed -o yaml`, binary),
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := Load(c.Root().PersistentFlags(), defaultFile)
			if err != nil {
				return err
			}
			values := s.Values()
			if changed {
				kept := values[:0]
				for _, v := range values {
					if v.Source != "default" {
						kept = append(kept, v)
					}
				}
				values = kept
			}
			if err := print(c.OutOrStdout(), output, cmp.Or(s.File(), "none ("+defaultFile+" is not there)"), values); err != nil {
				return err
			}
			if check == nil {
				return nil
			}
			if err := check(s); err != nil {
				return fmt.Errorf("these settings are refused at the start: %w", err)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "yaml for a configuration file, json; empty for a table")
	c.Flags().BoolVar(&changed, "changed", false, "Leave out what has its default")
	return c
}

func print(w io.Writer, format, file string, values []Value) error {
	switch format {
	case "":
		return printTable(w, file, values)
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{"file": file, "settings": values})
	case "yaml":
		for _, v := range values {
			b, err := yaml.Marshal(map[string]any{v.Name: v.Value})
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(w, "# %s\n%s", v.Source, b); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("-o %q: config prints a table, yaml or json", format)
}

func printTable(w io.Writer, file string, values []Value) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintf(t, "Configuration file: %s\n\n", file)
	fmt.Fprintln(t, "SETTING\tVALUE\tSOURCE")
	for _, v := range values {
		text := fmt.Sprint(v.Value)
		if list, ok := v.Value.([]string); ok {
			text = strings.Join(list, ",")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", v.Name, cmp.Or(text, `""`), v.Source)
	}
	return t.Flush()
}
