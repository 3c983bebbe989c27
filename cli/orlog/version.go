package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/cmd/version"
	"sigs.k8s.io/yaml"
)

// buildVersion is what this binary was built from, as the Go tool noted it.
type buildVersion struct {
	Version   string `json:"version"`
	Revision  string `json:"revision,omitempty"`
	Time      string `json:"time,omitempty"`
	Modified  bool   `json:"modified,omitempty"`
	GoVersion string `json:"goVersion"`
}

func readBuildVersion(info *debug.BuildInfo) buildVersion {
	v := buildVersion{Version: strings.Trim(info.Main.Version, "()"), GoVersion: info.GoVersion}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	v.Version = cmp.Or(v.Version, "devel")
	return v
}

// extendVersion makes kubectl's version say Orlog's too: what this binary is, before what it is made of.
func extendVersion(root *cobra.Command, f cmdutil.Factory, streams genericiooptions.IOStreams) {
	c := subcommand(root, "version")
	c.Short = "Print the versions of Orlog, of kubectl inside it and of the server"
	c.Long = c.Short + "."
	c.Run = func(c *cobra.Command, args []string) {
		var theirs bytes.Buffer
		o := version.NewOptions(genericiooptions.IOStreams{In: streams.In, Out: &theirs, ErrOut: streams.ErrOut})
		var err error
		if o.ClientOnly, err = c.Flags().GetBool("client"); err == nil {
			o.Output, err = c.Flags().GetString("output")
		}
		cmdutil.CheckErr(err)
		cmdutil.CheckErr(o.Complete(f, c, args))
		cmdutil.CheckErr(o.Validate())
		serverErr := o.Run() // what is known of the client is printed whether the server answers or not
		info, ok := debug.ReadBuildInfo()
		if !ok {
			info = &debug.BuildInfo{}
		}
		out, err := joinVersions(readBuildVersion(info), o.Output, theirs.Bytes())
		cmdutil.CheckErr(err)
		_, err = streams.Out.Write(out)
		cmdutil.CheckErr(err)
		cmdutil.CheckErr(serverErr)
	}
}

// joinVersions puts Orlog's version before what kubectl printed, or into it.
func joinVersions(v buildVersion, format string, theirs []byte) ([]byte, error) {
	if format == "" {
		return append(fmt.Appendf(nil, "Orlog Version: %s\n", v.Version), theirs...), nil
	}
	all := map[string]any{}
	if len(bytes.TrimSpace(theirs)) > 0 {
		if err := yaml.Unmarshal(theirs, &all); err != nil { // JSON is YAML
			return nil, fmt.Errorf("version: %w", err)
		}
	}
	all["orlogVersion"] = v
	if format == "json" {
		out, err := json.MarshalIndent(all, "", "  ")
		return append(out, '\n'), err
	}
	return yaml.Marshal(all)
}
