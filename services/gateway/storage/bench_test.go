package storage

import (
	"fmt"
	"sync/atomic"
	"testing"

	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/orlog-io/orlog/events/memlog"
	"github.com/orlog-io/orlog/projections"
)

func BenchmarkCreate(b *testing.B) {
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			_, s := setup(b)
			var n atomic.Int64
			b.SetParallelism((clients + 1) / 2)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					s.mustCreate(b, pod("ns", fmt.Sprintf("p%d", n.Add(1))))
				}
			})
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	ctx, s := setup(b)
	p := s.mustCreate(b, pod("ns", "p"))
	for b.Loop() {
		p = s.mustUpdate(ctx, b, p, func(p *example.Pod) {
			p.Spec.Hostname += "x"
			p.Spec.Hostname = p.Spec.Hostname[len(p.Spec.Hostname)/100:]
		})
	}
}

func BenchmarkList(b *testing.B) {
	ctx, s := setupOn(b, memlog.New(), projections.Options{History: true})
	for i := range 10000 {
		p := pod(fmt.Sprintf("ns%d", i%50), fmt.Sprintf("p%d", i))
		p.Annotations = map[string]string{"a": fmt.Sprintf("%0500d", i)}
		s.mustCreate(b, p)
	}
	for b.Loop() {
		list := &example.PodList{}
		if err := s.GetList(ctx, "/pods/", apistorage.ListOptions{Recursive: true, Predicate: apistorage.Everything}, list); err != nil || len(list.Items) != 10000 {
			b.Fatal(err, len(list.Items))
		}
	}
}
