package settings

import (
	"fmt"
	"io"
	"log/slog"
)

// Logger makes the process's logger and installs it as slog's default. level is debug, info, warn or error;
// format text or json.
func Logger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log-level %q: want debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	var h slog.Handler
	switch format {
	case "text":
		h = slog.NewTextHandler(w, o)
	case "json":
		h = slog.NewJSONHandler(w, o)
	default:
		return nil, fmt.Errorf("log-format %q: want text or json", format)
	}
	logger := slog.New(h)
	slog.SetDefault(logger)
	return logger, nil
}
