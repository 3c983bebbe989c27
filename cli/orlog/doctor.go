package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"github.com/orlog-io/orlog/cli/orlog/doctor"
)

// systemData is where an installed Orlog keeps what it knows.
const systemData = "/var/lib/orlog"

func newDoctorCommand(api *apiClient, from *kubeconfigSource, streams genericiooptions.IOStreams) *cobra.Command {
	o := doctor.Options{}
	var output string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this machine is fit to run Orlog",
		Long: `Check whether this machine is fit to run Orlog: kernel, cgroups, disk, clock, ports, binaries, and what an
Orlog that no longer runs has left behind.

A line a check: ok, a warning (Orlog runs, but...) or a problem (it does not), with what to do. The exit status is
1 with a problem. What only an attempt can tell is tried in namespaces of its own; the machine stays as it is.`,
		Example: `  # Before the first start, and whenever something is odd
  sudo orlog doctor

  # A machine that runs the control plane only
  sudo orlog doctor --node=false

  # With other folders and ports than the usual ones
  sudo orlog doctor --data-dir /srv/orlog --listen 0.0.0.0:7443

  # For a program
  sudo orlog doctor -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "" && output != "json" && output != "yaml" {
				return fmt.Errorf("-o %q: doctor prints lines, json or yaml", output)
			}
			if err := completeOptions(&o, api, from); err != nil {
				return err
			}
			var err error
			findings := doctor.Run(c.Context(), o)
			if output != "" {
				err = printObject(streams.Out, output, map[string]any{"checks": findings, "status": doctor.Worst(findings)})
			} else {
				err = printFindings(streams.Out, findings, palette(useColour("auto", streams.Out)))
			}
			if err == nil && doctor.Worst(findings) == doctor.Problem {
				return cmdutil.ErrExit
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.DataDir, "data-dir", "", "orlogd's --data-dir (default: that of the nearest .orlog folder, else "+systemData+")")
	f.StringVar(&o.NodeDir, "node-dir", "", "orlog-agent's --data-dir (default: that of the nearest .orlog folder, else "+systemData+"/node)")
	f.StringVar(&o.BinDir, "bin-dir", "", "folder of runc, orlog-shim and cni/ (default: where orlog is)")
	f.StringVar(&o.Listen, "listen", "0.0.0.0:6443", "orlogd's --listen")
	f.StringVar(&o.NATSListen, "nats-listen", "127.0.0.1:4222", "orlogd's --nats-listen")
	f.StringVar(&o.Bridge, "bridge", "orlog0", "orlog-agent's --bridge")
	f.StringVar(&o.Table, "nft-table", "orlog", "orlog-agent's --nft-table")
	f.StringVar(&o.CgroupRoot, "cgroup-root", "/orlog", "orlog-agent's --cgroup-root")
	f.BoolVar(&o.Node, "node", true, "This machine is to run pods too")
	f.StringVarP(&output, "output", "o", "", "json or yaml; empty for lines")
	mustComplete(c, "output", cobra.FixedCompletions([]string{"json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// completeOptions fills in what the user left out, and how to reach the cluster where there is a kubeconfig.
func completeOptions(o *doctor.Options, api *apiClient, from *kubeconfigSource) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o.DataDir = cmp.Or(o.DataDir, nearestInstall("orlogd"), systemData)
	o.NodeDir = cmp.Or(o.NodeDir, nearestInstall("node"), filepath.Join(systemData, "node"))
	o.BinDir = cmp.Or(o.BinDir, filepath.Dir(self))
	for _, dir := range []*string{&o.DataDir, &o.NodeDir, &o.BinDir} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return err
		}
	}
	if _, base, err := api.connect(); err == nil && from.found() {
		o.GatewayAddress, o.Gateway = base.Host, api.date
	}
	return nil
}

// dateTime bounds how long the gateway may take to tell the time.
const dateTime = 5 * time.Second

// date is the gateway's clock, as the Date header of an answer tells it; who asks need not be known there.
func (a *apiClient) date(ctx context.Context) (time.Time, error) {
	client, base, err := a.connect()
	if err != nil {
		return time.Time{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, dateTime)
	defer cancel()
	base.Path = "/version"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.String(), nil)
	if err != nil {
		return time.Time{}, err
	}
	res, err := client.Do(req)
	if err != nil {
		return time.Time{}, err
	}
	defer res.Body.Close()
	return http.ParseTime(res.Header.Get("Date"))
}

// printFindings prints a line a finding, and how many were no good.
func printFindings(w io.Writer, findings []doctor.Finding, p palette) error {
	paint := map[doctor.Status]func(string) string{doctor.OK: p.green, doctor.Warning: p.yellow, doctor.Problem: p.red}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	n := map[doctor.Status]int{}
	for _, f := range findings {
		n[f.Status]++
		text := f.Detail
		if f.Advice != "" {
			text += " -> " + f.Advice
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", paint[f.Status](string(f.Status)), f.Check, text)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s: %s, %s\n", count(len(findings), "check"), count(n[doctor.Warning], "warning"), count(n[doctor.Problem], "problem"))
	return err
}
