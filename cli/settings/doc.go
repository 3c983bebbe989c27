// Package settings gives every Orlog binary its configuration the same way: flags > environment ORLOG_* >
// file > default, through viper.
//
// A binary declares its settings as flags, with their defaults and help; settings finds the environment
// variable (--data-dir is ORLOG_DATA_DIR) and the file's key (data-dir) by the flag's name. A key in the file
// that no flag knows is refused, so that a misspelt setting cannot be ignored.
package settings
