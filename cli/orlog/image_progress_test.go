package main

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/vbauerster/mpb/v8"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/orlog-io/orlog/node/image"
)

func TestLayerBarsShowEachLayerToItsEnd(t *testing.T) {
	var out bytes.Buffer
	bars := newLayerBars(t.Context(), &out, mpb.ForceAutoRefresh())
	one, two := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	bars.report(image.Progress{Layer: one, Total: 5_000_000})
	bars.report(image.Progress{Layer: two, Done: 10, Total: 10, Unpacked: true})
	bars.report(image.Progress{Layer: one, Done: 2_000_000, Total: 5_000_000})
	bars.report(image.Progress{Layer: one, Done: 5_000_000, Total: 5_000_000})
	bars.report(image.Progress{Layer: one, Done: 5_000_000, Total: 5_000_000, Unpacked: true})
	bars.end()
	text := out.String()
	for _, want := range []string{`aaaaaaaaaaaa +done .*5\.0 MB / 5\.0 MB`, `bbbbbbbbbbbb +done .*10\.0 b / 10\.0 b`} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("no %q in %q", want, text)
		}
	}
}

// A pull that fails leaves its bars where they were, and does not wait for them.
func TestLayerBarsEndWithAFailedPull(t *testing.T) {
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	bars := newLayerBars(ctx, &out, mpb.ForceAutoRefresh())
	bars.report(image.Progress{Layer: "sha256:" + strings.Repeat("c", 64), Done: 1_000_000, Total: 4_000_000})
	bars.end()
	if text := out.String(); !strings.Contains(text, "1.0 MB / 4.0 MB") || strings.Contains(text, "done") {
		t.Errorf("shown: %q", text)
	}
}

func TestPullNamesTheFlagThatIsWrong(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	for want, args := range map[string][]string{
		"--registry-mirror": {"pull", "x", "--registry-mirror", "docker.io"},
		"--docker-config":   {"pull", "x", "--docker-config", "/nowhere/config.json"},
	} {
		streams, _, _, _ := genericiooptions.NewTestIOStreams()
		c := newImageCommand(streams)
		c.SetArgs(append(args, "--store", t.TempDir()))
		c.SilenceErrors, c.SilenceUsage = true, true
		if err := c.Execute(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
