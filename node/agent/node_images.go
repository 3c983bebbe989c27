package agent

import (
	"cmp"
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/node/image"
)

// How many images a node's status names, and by how many names each, as the kubelet has it: the status is written
// anew whenever one comes or goes.
const (
	reportedImages = 50
	reportedNames  = 5
)

// nodeImages is what a node's status says of its images: the largest first, each by its digests and then its tags.
func nodeImages(all []image.Image) []v1.ContainerImage {
	byID := map[string]*v1.ContainerImage{}
	var out []*v1.ContainerImage
	add := func(img image.Image, name string) {
		i := byID[img.ID]
		if i == nil {
			i = &v1.ContainerImage{SizeBytes: img.Size}
			byID[img.ID], out = i, append(out, i)
		}
		if name != "" && len(i.Names) < reportedNames && !slices.Contains(i.Names, name) {
			i.Names = append(i.Names, name)
		}
	}
	for _, img := range all {
		add(img, img.Digested)
	}
	for _, img := range all {
		add(img, img.Ref)
	}
	slices.SortStableFunc(out, func(a, b *v1.ContainerImage) int { return cmp.Compare(b.SizeBytes, a.SizeBytes) })
	images := make([]v1.ContainerImage, 0, min(len(out), reportedImages))
	for _, i := range out[:min(len(out), reportedImages)] {
		images = append(images, *i)
	}
	return images
}
