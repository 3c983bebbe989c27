package agent

import (
	"fmt"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/node/agent/ladder"
	"github.com/orlog-io/orlog/node/image"
)

func TestNodeImages(t *testing.T) {
	all := []image.Image{
		{ID: "sha256:a", Ref: "r/small:1", Digested: "r/small@sha256:1", Size: 10},
		{ID: "sha256:b", Ref: "r/large:1", Digested: "r/large@sha256:2", Size: 20},
		{ID: "sha256:b", Ref: "r/large:2", Digested: "r/large@sha256:2", Size: 20},
		{ID: "sha256:c", Size: 5}, // without a name
	}
	want := []v1.ContainerImage{
		{Names: []string{"r/large@sha256:2", "r/large:1", "r/large:2"}, SizeBytes: 20},
		{Names: []string{"r/small@sha256:1", "r/small:1"}, SizeBytes: 10},
		{SizeBytes: 5},
	}
	if got := nodeImages(all); !ladder.EqualJSON(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for i := range 60 {
		all = append(all, image.Image{ID: fmt.Sprint(i), Size: 100, Ref: fmt.Sprint("many:", i)}, image.Image{ID: "sha256:a", Ref: fmt.Sprint("r/small:", i), Size: 10})
	}
	if got := nodeImages(all); len(got) != reportedImages || got[0].SizeBytes != 100 {
		t.Errorf("%d images, the first of %d bytes", len(got), got[0].SizeBytes)
	}
	if got := nodeImages(all[:4+60]); len(got) != 3+30 || len(got[31].Names) != reportedNames {
		t.Errorf("%d images: %v", len(got), got)
	}
}
