package main

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/orlog-io/orlog/node/image"
)

// layerBars shows on a terminal how far each layer of an image has come.
type layerBars struct {
	bars *mpb.Progress

	mu     sync.Mutex
	layers map[string]*layerBar
}

type layerBar struct {
	*mpb.Bar
	mu    sync.Mutex
	state string
}

func newLayerBars(ctx context.Context, w io.Writer, options ...mpb.ContainerOption) *layerBars {
	options = append([]mpb.ContainerOption{mpb.WithOutput(w), mpb.WithWidth(40), mpb.WithRefreshRate(120 * time.Millisecond)}, options...)
	return &layerBars{bars: mpb.NewWithContext(ctx, options...), layers: map[string]*layerBar{}}
}

// report takes in news of a layer; it is called from several goroutines.
func (b *layerBars) report(p image.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.layers[p.Layer]
	if l == nil {
		l = b.add(p)
		b.layers[p.Layer] = l
	}
	switch {
	case p.Unpacked && p.Done == p.Total:
		l.say("done")
		l.SetTotal(p.Total, true)
	case p.Done == p.Total:
		l.say("unpacking")
		l.SetCurrent(max(p.Total-1, 0)) // a full bar is a finished one
	case p.Done > 0:
		l.say("fetching")
		l.SetCurrent(p.Done)
	}
}

// add makes the bar of a layer.
func (b *layerBars) add(p image.Progress) *layerBar {
	l := &layerBar{state: "waiting"}
	l.Bar = b.bars.AddBar(max(p.Total, 1),
		mpb.PrependDecorators(decor.Name(shortDigest(p.Layer)+" "), decor.Any(func(decor.Statistics) string { return l.says() }, decor.WC{W: 9, C: decor.DindentRight})),
		mpb.AppendDecorators(decor.CountersKiloByte("% .1f / % .1f", decor.WCSyncWidth)))
	return l
}

func (l *layerBar) say(state string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = state
}

func (l *layerBar) says() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// end leaves the bars as they are.
func (b *layerBars) end() {
	b.mu.Lock()
	for _, l := range b.layers {
		l.Abort(false) // of a pull that failed; one that is complete is no longer concerned
	}
	b.mu.Unlock()
	b.bars.Wait()
}
