package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCompletionLoads loads the completion into real shells and lets them complete.
func TestCompletionLoads(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "orlog")); err != nil {
		t.Fatal(err)
	}
	for shell, c := range map[string]struct {
		args   []string
		script string
		want   []string
	}{
		// The function of package bash-completion that the script calls is played here; what it tells is the shell's own.
		"bash": {[]string{"--norc", "--noprofile", "-c"}, `
_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${words[cword]}; prev=${words[cword-1]}; }
source <(orlog completion bash) || exit 1
complete -p orlog
complete_line() {
	COMP_LINE=$*; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
	__start_orlog
	printf '<%s>\n' "${COMPREPLY[@]}"
}
complete_line orlog hist
complete_line orlog tail --class ""
`, []string{"-F __start_orlog orlog", "<history>", "<desired>", "<observed>"}},
		"zsh": {[]string{"-f", "-c"}, `
autoload -Uz compinit; compinit -u -D
source <(orlog completion zsh) || exit 1
print "registered: ${_comps[orlog]}"
whence -w _orlog
`, []string{"registered: _orlog", "_orlog: function"}},
		"fish": {[]string{"--no-config", "-c"}, `
orlog completion fish | source; or exit 1
complete -C 'orlog hist'
complete -C 'orlog tail --class '
`, []string{"history\tShow every change", "desired", "observed"}},
	} {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Fatalf("%v: deploy/local/setup --test installs it", err)
			}
			cmd := exec.Command(path, append(c.args, c.script)...)
			cmd.Env = append(os.Environ(), asOrlog+"=1", "PATH="+dir+":"+os.Getenv("PATH"), "KUBECONFIG="+filepath.Join(dir, "none"), "HOME="+dir)
			var out, complaints strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &complaints
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s%s", err, out.String(), complaints.String())
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s%s", want, out.String(), complaints.String())
				}
			}
		})
	}
}
