package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/orlog-io/orlog/cli/settings"
)

// newConfigCommand is "orlogd config": the settings in effect, refused where orlogd would refuse them.
func newConfigCommand() *cobra.Command {
	return settings.NewConfigCommand("orlogd", defaultConfig, func(s *settings.Settings) error {
		_, err := readOptions(s, slog.Default())
		return err
	})
}
