package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/orlog-io/orlog/node/agent/ladder"
)

// fetch makes sure that the images which are volumes are here.
func (w *worker) fetch(ctx context.Context, pod *v1.Pod) ladder.Outcome {
	for _, v := range pod.Spec.Volumes {
		if v.Image == nil {
			continue
		}
		if o := w.pull(ctx, pod, &v1.Container{Image: v.Image.Reference, ImagePullPolicy: v.Image.PullPolicy}, ""); o.Err != nil {
			return o
		}
	}
	return ladder.Outcome{}
}

// pull makes sure that a container's image is here, as its pull policy wants it. A container without a name stands
// for a volume.
func (w *worker) pull(ctx context.Context, pod *v1.Pod, c *v1.Container, wasID string) ladder.Outcome {
	fail := func(reason string, err error) ladder.Outcome {
		if ctx.Err() == nil {
			w.containerEvent(pod, c.Name, v1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %v", c.Image, err))
			w.containerEvent(pod, c.Name, v1.EventTypeWarning, "Failed", "Error: "+reason)
		}
		return ladder.Outcome{Err: err, Reason: reason}
	}
	policy := c.ImagePullPolicy
	if policy == "" {
		policy = v1.PullIfNotPresent
	}
	img, here, err := w.a.o.Images.Get(c.Image)
	switch {
	case errors.Is(err, ErrInvalidImage):
		return fail("InvalidImageName", fmt.Errorf("couldn't parse image name %q: %w", c.Image, err))
	case err != nil:
		return fail(ladder.ReasonErrImagePull, err)
	case here && policy != v1.PullAlways:
		if img.ID != wasID {
			w.containerEvent(pod, c.Name, v1.EventTypeNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine", c.Image))
		}
		return ladder.Outcome{ImageID: img.ID}
	case policy == v1.PullNever:
		return fail("ErrImageNeverPull", fmt.Errorf("container image %q is not present with pull policy of Never", c.Image))
	}
	select {
	case w.a.pulls <- struct{}{}:
	case <-ctx.Done():
		return ladder.Outcome{Err: ctx.Err(), Reason: ladder.ReasonErrImagePull}
	}
	defer func() { <-w.a.pulls }()
	w.containerEvent(pod, c.Name, v1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", c.Image))
	begun := time.Now()
	img, err = w.a.o.Images.Pull(ctx, c.Image, w.logins(pod))
	if err == nil || ctx.Err() == nil {
		w.a.o.metrics.pulled(time.Since(begun), err)
	}
	switch {
	case errors.Is(err, ErrInvalidImage):
		return fail("InvalidImageName", err)
	case err != nil:
		return fail(ladder.ReasonErrImagePull, fmt.Errorf("failed to pull and unpack image %q: %w", c.Image, err))
	}
	w.containerEvent(pod, c.Name, v1.EventTypeNormal, "Pulled", fmt.Sprintf("Successfully pulled image %q in %v. Image size: %d bytes.",
		c.Image, time.Since(begun).Round(time.Millisecond), img.Size))
	return ladder.Outcome{ImageID: img.ID, Fetched: true}
}

// logins are the contents of the pod's image pull secrets. A secret that is missing gives none: the image may be
// public.
func (w *worker) logins(pod *v1.Pod) [][]byte {
	var out [][]byte
	for _, ref := range pod.Spec.ImagePullSecrets {
		s, err := w.a.sources.Secret(pod.Namespace, ref.Name)
		if err != nil {
			w.event(v1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
				fmt.Sprintf("Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", ref.Name))
			continue
		}
		for _, key := range []string{v1.DockerConfigJsonKey, v1.DockerConfigKey} {
			if raw, has := s.Data[key]; has {
				out = append(out, raw)
			}
		}
	}
	return out
}
