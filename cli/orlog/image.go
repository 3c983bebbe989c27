package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/docker/go-units"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/orlog-io/orlog/node/image"
	"github.com/orlog-io/orlog/node/runc"
)

// systemImages is where an installed node keeps its images.
const systemImages = "/var/lib/orlog/node/images"

func newImageCommand(streams genericiooptions.IOStreams) *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "Manage the images of this node: pack, load, pull, ls, rm",
		Long: `Manage the images of this node.

Works on this machine's image store, beside a running agent: the store that --store names, else that of the
nearest .orlog folder, else ` + systemImages + `.`,
	}
	var dir string
	c.PersistentFlags().StringVar(&dir, "store", "", "folder of the image store")
	open := func() (*image.Store, error) {
		return image.Open(cmp.Or(dir, nearestInstall("node", "images"), systemImages))
	}
	c.AddCommand(newPackCommand(open, streams), newLoadCommand(open, streams), newPullCommand(open, streams),
		newListCommand(open, streams), newRemoveCommand(open, streams))
	return c
}

type openStore func() (*image.Store, error)

func interruptible(c *cobra.Command) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
}

func newPackCommand(open openStore, streams genericiooptions.IOStreams) *cobra.Command {
	var tag string
	var entrypoint, args, env, expose []string
	var user, workdir string
	var applets bool
	c := &cobra.Command{
		Use:   "pack BINARY",
		Short: "Make an image from a static binary",
		Example: `  # A Go program built with CGO_ENABLED=0 needs nothing else
  orlog image pack ./server --tag example.com/server:1.0 --expose 8080

  # A shell with all its tools
  orlog image pack /bin/busybox --applets --entrypoint /bin/sh --tag busybox:local`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, argv []string) error {
			if tag == "" {
				return fmt.Errorf("--tag is required: the image's name, for example example.com/server:1.0")
			}
			o := image.PackOptions{Config: v1.ImageConfig{Entrypoint: entrypoint, Cmd: args, Env: env, User: user, WorkingDir: workdir}}
			for _, p := range expose {
				if o.Config.ExposedPorts == nil {
					o.Config.ExposedPorts = map[string]struct{}{}
				}
				if !strings.Contains(p, "/") {
					p += "/tcp"
				}
				o.Config.ExposedPorts[p] = struct{}{}
			}
			ctx, stop := interruptible(c)
			defer stop()
			if applets {
				files, err := appletLinks(ctx, argv[0])
				if err != nil {
					return err
				}
				o.Path, o.Files = "/bin/busybox", files
				o.Config.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
			}
			s, err := open()
			if err != nil {
				return err
			}
			img, err := s.Pack(ctx, argv[0], tag, o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(streams.Out, "packed %s (%s)\n", img.Ref, units.HumanSize(float64(img.Size)))
			return err
		},
	}
	f := c.Flags()
	f.StringVarP(&tag, "tag", "t", "", "name of the image (required)")
	f.StringSliceVar(&entrypoint, "entrypoint", nil, "what to run (default: the binary)")
	f.StringArrayVar(&args, "arg", nil, "argument of the entrypoint, repeatable; a pod's args replace them")
	f.StringArrayVarP(&env, "env", "e", nil, "environment variable NAME=VALUE, repeatable")
	f.StringSliceVar(&expose, "expose", nil, "port that it listens on, repeatable")
	f.StringVar(&user, "user", "", "user (and :group) to run as, names or numbers")
	f.StringVar(&workdir, "workdir", "", "working directory")
	f.BoolVar(&applets, "applets", false, "the binary is busybox: put it at /bin/busybox and link every applet to it")
	return c
}

// appletLinks asks busybox for its applets and links each to it.
func appletLinks(ctx context.Context, busybox string) ([]image.File, error) {
	out, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("--applets: %s --list: %w (is it a busybox?)", busybox, err)
	}
	var files []image.File
	for _, name := range strings.Fields(string(out)) {
		if name != "busybox" {
			files = append(files, image.File{Path: "/bin/" + name, Link: "busybox"})
		}
	}
	return files, nil
}

func newLoadCommand(open openStore, streams genericiooptions.IOStreams) *cobra.Command {
	return &cobra.Command{
		Use:   "load FILE-OR-FOLDER",
		Short: "Add images from an OCI layout or a docker archive",
		Example: `  # What docker save or podman save wrote
  orlog image load server.tar

  # An OCI image layout, as a folder or as a tar file
  orlog image load ./layout`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(c)
			defer stop()
			images, err := s.Load(ctx, args[0])
			if err != nil {
				return err
			}
			for _, i := range images {
				if _, err := fmt.Fprintf(streams.Out, "loaded %s\n", cmp.Or(i.Ref, i.ID)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func newListCommand(open openStore, streams genericiooptions.IOStreams) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the images of this node",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			images, err := s.List()
			if err != nil {
				return err
			}
			return printImages(streams.Out, images, time.Now())
		},
	}
}

func printImages(w io.Writer, images []image.Image, now time.Time) error {
	t := printers.GetNewTabWriter(w)
	fmt.Fprintln(t, "IMAGE\tID\tSIZE\tAGE")
	for _, i := range images {
		fmt.Fprintf(t, "%s\t%.19s\t%s\t%s\n", cmp.Or(i.Ref, "<none>"), i.ID, units.HumanSize(float64(i.Size)), duration.HumanDuration(now.Sub(i.Added)))
	}
	return t.Flush()
}

func newRemoveCommand(open openStore, streams genericiooptions.IOStreams) *cobra.Command {
	return &cobra.Command{
		Use:     "rm IMAGE...",
		Aliases: []string{"remove"},
		Short:   "Remove images that no container uses",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(c)
			defer stop()
			images, err := s.List()
			if err != nil {
				return err
			}
			var layers []string
			for _, i := range images {
				layers = append(layers, i.Layers...)
			}
			used, err := runc.MountedLayers(layers)
			if err != nil {
				return err
			}
			for _, ref := range args {
				if err := s.Remove(ctx, ref, used); err != nil {
					return err
				}
				if _, err := fmt.Fprintf(streams.Out, "removed %s\n", ref); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
