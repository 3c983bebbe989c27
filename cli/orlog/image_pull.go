package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/orlog-io/orlog/node/image"
)

func newPullCommand(open openStore, streams genericiooptions.IOStreams) *cobra.Command {
	var plain, mirrors []string
	var dockerConfig string
	var quiet bool
	c := &cobra.Command{
		Use:   "pull IMAGE",
		Short: "Get an image from its registry",
		Long: `Get an image from its registry, whether it is here or not. Layers that are here are not fetched again, and a
pull that was interrupted goes on from the bytes that it had got.

Credentials are those of a docker configuration: what "docker login" and "podman login --authfile" write. On a
terminal each layer's progress is shown.`,
		Example: `  # From a registry on this machine, without TLS
  orlog image pull localhost:5000/shop/web:1.2

  # With the credentials of another file, by way of a mirror
  orlog image pull nginx:1.29 --docker-config ./auth.json --registry-mirror docker.io=mirror.example.com`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o := image.PullOptions{PlainHTTP: plain}
			var err error
			if o.Mirrors, err = image.ParseMirrors(mirrors); err != nil {
				return fmt.Errorf("--registry-mirror: %w", err)
			}
			if o.DockerConfigs, err = readDockerConfig(dockerConfig); err != nil {
				return err
			}
			s, err := open()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(c)
			defer stop()
			end := func() {}
			if !quiet && printers.IsTerminal(streams.ErrOut) {
				bars := newLayerBars(ctx, streams.ErrOut)
				o.Progress, end = bars.report, bars.end
			}
			img, err := s.Pull(ctx, args[0], o)
			end()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(streams.Out, "pulled %s (%s)\n", img.Ref, units.HumanSize(float64(img.Size)))
			return err
		},
	}
	f := c.Flags()
	f.StringSliceVar(&plain, "plain-http", nil, "registry (host:port) to reach without TLS, repeatable; those on loopback are anyway")
	f.StringSliceVar(&mirrors, "registry-mirror", nil, "REGISTRY=MIRROR: where to look before the registry itself, repeatable; http://MIRROR without TLS")
	f.StringVar(&dockerConfig, "docker-config", "", "docker configuration with credentials (default: config.json in $DOCKER_CONFIG or ~/.docker, where it exists)")
	f.BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	return c
}

// readDockerConfig reads the file that was asked for, or the usual one where there is one.
func readDockerConfig(file string) ([][]byte, error) {
	asked := file != ""
	if !asked {
		dir := os.Getenv("DOCKER_CONFIG")
		if dir == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return nil, nil //nolint:nilerr // a user without a home has no credentials there
			}
			dir = filepath.Join(home, ".docker")
		}
		file = filepath.Join(dir, "config.json")
	}
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !asked:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("--docker-config: %w", err)
	case !strings.Contains(string(data), `"auths"`): // one that only says how the tool looks
		return nil, nil
	}
	return [][]byte{data}, nil
}

// shortDigest is what people see of a layer's digest.
func shortDigest(digest string) string {
	_, hex, _ := strings.Cut(digest, ":")
	return fmt.Sprintf("%.12s", cmp.Or(hex, digest))
}
