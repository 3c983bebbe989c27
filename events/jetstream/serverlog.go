package jetstream

import (
	"fmt"
	"log/slog"
	"sync"
)

// serverLog passes what the embedded server has to complain of to slog, and drops its chatter.
type serverLog struct {
	to   *slog.Logger
	mu   sync.Mutex
	last string
}

func (l *serverLog) Noticef(string, ...any) {}
func (l *serverLog) Debugf(string, ...any)  {}
func (l *serverLog) Tracef(string, ...any)  {}

func (l *serverLog) Warnf(format string, v ...any) { l.to.Warn(fmt.Sprintf(format, v...)) }

func (l *serverLog) Errorf(format string, v ...any) { l.error(fmt.Sprintf(format, v...)) }

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
