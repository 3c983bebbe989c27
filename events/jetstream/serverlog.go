package jetstream

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// serverLog passes what the embedded server has to complain of to slog, and drops its chatter.
type serverLog struct {
	to   *slog.Logger
	mu   sync.Mutex
	last string
	// refused is when it was last said that a client was turned away, by the client's key.
	refused map[string]time.Time
}

func (l *serverLog) Noticef(string, ...any) {}
func (l *serverLog) Debugf(string, ...any)  {}
func (l *serverLog) Tracef(string, ...any)  {}

func (l *serverLog) Warnf(format string, v ...any) { l.to.Warn(fmt.Sprintf(format, v...)) }

// Errorf is for what fails, and for every client that is turned away: those try again for ever, and are news
// once in a while.
func (l *serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if _, who, turnedAway := strings.Cut(text, " - authentication error"); turnedAway {
		if l.news(who) {
			l.to.Warn("a client was turned away", "client", text)
		}
		return
	}
	l.error(text)
}

const (
	// refusalsEvery is how often it is said that the same client is turned away.
	refusalsEvery = time.Minute
	// maxRefused bounds what is remembered of clients that are turned away.
	maxRefused = 1000
)

func (l *serverLog) news(who string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if last, known := l.refused[who]; known && now.Sub(last) < refusalsEvery {
		return false
	}
	if len(l.refused) >= maxRefused || l.refused == nil {
		l.refused = map[string]time.Time{}
	}
	l.refused[who] = now
	return true
}

// Fatalf must not end the process: StartServer reports that the server did not become ready.
func (l *serverLog) Fatalf(format string, v ...any) { l.error(fmt.Sprintf(format, v...)) }

func (l *serverLog) error(text string) {
	l.mu.Lock()
	l.last = text
	l.mu.Unlock()
	l.to.Error(text)
}

func (l *serverLog) lastError() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == "" {
		return "none"
	}
	return l.last
}
