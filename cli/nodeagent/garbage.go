package nodeagent

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/orlog-io/orlog/cli/settings"
	"github.com/orlog-io/orlog/node/agent"
	"github.com/orlog-io/orlog/node/image"
)

// addGarbageFlags declares what is kept of images, ended containers and logs. The names are the kubelet's.
func addGarbageFlags(f *pflag.FlagSet) {
	p := image.DefaultPolicy
	f.Int("image-gc-high-threshold", p.High, "percentage of the images' disk from which unused images are removed; 100: never because of the disk")
	f.Int("image-gc-low-threshold", p.Low, "percentage of the disk down to which they are")
	f.Duration("minimum-image-ttl-duration", p.MinAge, "how long an image stays after it came, used or not")
	f.Duration("maximum-image-ttl-duration", p.MaxAge, "how long an unused image stays at most; 0: for ever")
	f.Int("maximum-dead-containers-per-container", 1, "ended attempts of a container, before the current one, whose logs are kept; negative: all")
	f.Duration("minimum-container-ttl-duration", 0, "how long the remains of an ended attempt are kept in any case")
	f.String("container-log-max-size", "10Mi", "size at which a container's log file is rotated")
	f.Int("container-log-max-files", 5, "log files kept of a container, the current one included; at least 2")
}

// readGarbage reads them. Errors name the setting.
func readGarbage(s *settings.Settings, o *agent.Options) (err error) {
	for name, to := range map[string]*int{
		"image-gc-high-threshold": &o.ImageGC.High, "image-gc-low-threshold": &o.ImageGC.Low,
		"maximum-dead-containers-per-container": &o.DeadContainers.Max, "container-log-max-files": &o.LogFiles,
	} {
		if *to, err = strconv.Atoi(s.String(name)); err != nil {
			return fmt.Errorf("%s %q: want a whole number", name, s.String(name))
		}
	}
	for name, to := range map[string]*time.Duration{
		"minimum-image-ttl-duration": &o.ImageGC.MinAge, "maximum-image-ttl-duration": &o.ImageGC.MaxAge,
		"minimum-container-ttl-duration": &o.DeadContainers.MinAge,
	} {
		if *to, err = time.ParseDuration(s.String(name)); err != nil || *to < 0 {
			return fmt.Errorf("%s %q: want a duration, such as 2m or 24h", name, s.String(name))
		}
	}
	if err := o.ImageGC.Validate(); err != nil {
		return err
	}
	if o.LogFiles < 2 {
		return fmt.Errorf("container-log-max-files %d: want at least 2: the current one and one before", o.LogFiles)
	}
	size, err := resource.ParseQuantity(s.String("container-log-max-size"))
	if err != nil || size.Value() < 1<<10 {
		return fmt.Errorf("container-log-max-size %q: want a quantity of bytes of at least 1Ki, such as 10Mi", s.String("container-log-max-size"))
	}
	o.LogMaxSize = size.Value()
	return nil
}
