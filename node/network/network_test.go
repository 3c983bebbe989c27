package network

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOptionsRejectWhatCannotWork(t *testing.T) {
	plugins := t.TempDir()
	for _, name := range []string{"bridge", "host-local"} {
		if err := os.WriteFile(filepath.Join(plugins, name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	good := Options{Dir: "/var/lib/x", PluginDir: plugins, PodCIDR: netip.MustParsePrefix("10.1.2.7/24")}
	o, err := good.complete()
	if err != nil {
		t.Fatal(err)
	}
	if o.gateway() != netip.MustParseAddr("10.1.2.1") || o.ClusterCIDR.String() != "10.1.2.0/24" ||
		o.Bridge != "orlog0" || o.Table != "orlog0-pods" {
		t.Errorf("defaults: %+v", o)
	}
	for want, spoil := range map[string]func(*Options){
		"Dir":         func(o *Options) { o.Dir = "relative" },
		"PluginDir":   func(o *Options) { o.PluginDir = "/nowhere" },
		"PodCIDR":     func(o *Options) { o.PodCIDR = netip.MustParsePrefix("fd00::/64") },
		"Bridge":      func(o *Options) { o.Bridge = "much-too-long-a-name" },
		"ClusterCIDR": func(o *Options) { o.ClusterCIDR = netip.MustParsePrefix("10.9.0.0/16") },
	} {
		o := good
		spoil(&o)
		if _, err := o.complete(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not name the field", want, err)
		}
	}
}

func TestConflist(t *testing.T) {
	o := Options{Dir: "/d", Bridge: "br", PodCIDR: netip.MustParsePrefix("10.1.2.0/24"), MTU: 1400}
	got, err := o.conflist()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/conflist.json")
	if err != nil {
		t.Fatal(err)
	}
	if string(got)+"\n" != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestRecords(t *testing.T) {
	m := &Manager{opts: Options{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}}
	if err := os.Mkdir(filepath.Join(m.opts.Dir, "sandboxes"), 0o700); err != nil {
		t.Fatal(err)
	}
	whole := &record{ID: "orlog-1", PodUID: "u", Attached: true, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}
	if err := m.save(whole); err != nil {
		t.Fatal(err)
	}
	// What a power loss leaves: an empty record, and a temporary that was never renamed.
	for name, data := range map[string]string{"orlog-2.json": "", "orlog-3.json.tmp": `{"id":`} {
		if err := os.WriteFile(filepath.Join(m.opts.Dir, "sandboxes", name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := m.loadRecords()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].PodUID != "u" || got[0].IPs[0] != whole.IPs[0] || got[1].ID != "orlog-2" || got[1].Attached {
		t.Errorf("got %+v", got)
	}
	if err := m.forget("orlog-1"); err != nil {
		t.Fatal(err)
	}
	if err := m.forget("orlog-1"); err != nil {
		t.Errorf("forgetting twice: %v", err)
	}
}
