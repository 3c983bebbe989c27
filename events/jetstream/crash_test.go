package jetstream_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/orlog-io/orlog/events"
	"github.com/orlog-io/orlog/events/jetstream"
)

// serverDir tells the test binary to be a log server on that directory, so that it can be killed.
const serverDir = "ORLOG_TEST_SERVER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serverDir); dir != "" {
		s, err := jetstream.StartServer(jetstream.ServerOptions{Dir: dir, Port: -1})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.URL())
		bufio.NewReader(os.Stdin).ReadByte() // until the parent is gone
		s.Shutdown()
		os.Exit(0)
	}
	code := m.Run()
	if code == 0 {
		// Every goroutine has an owner and an end, but for one of the embedded server's: where a block is closed
		// while its flusher is being started, the flusher waits for ever.
		flusher := goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*msgBlock).flushLoop")
		if err := goleak.Find(flusher); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

// serverProcess is a log server of its own process.
type serverProcess struct {
	url string
	cmd *exec.Cmd
}

func startProcess(t *testing.T, dir string) *serverProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverDir+"="+dir)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil { // closed when this process ends
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &serverProcess{cmd: cmd}
	room := jetstream.StagingRoom(t, dir)
	t.Cleanup(func() {
		p.kill()
		if err := os.RemoveAll(room); err != nil {
			t.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	p.url = strings.TrimSpace(line)
	if err != nil || !strings.HasPrefix(p.url, "nats://") {
		t.Fatalf("log server: %q, %v", line, err)
	}
	return p
}

// kill is kill -9.
func (p *serverProcess) kill() {
	_ = p.cmd.Process.Kill() // it may be gone
	_ = p.cmd.Wait()
}

// TestKilledServer: the server is killed again and again under writers of single events and of batches. What
// was acknowledged is there, once, in order; a batch is there as a whole; readers miss nothing.
func TestKilledServer(t *testing.T) {
	const writers, appends, kills = 6, 40, 4
	dir := t.TempDir()
	server := startProcess(t, dir)
	p := startProxy(t, server.url)
	l := open(t, connect(t, jetstream.Options{URL: p.url()}))
	sub, err := l.Subscribe(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	progress := make(chan struct{}, writers*appends)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			var last events.Sequence
			name := fmt.Sprint("w", w)
			for i := range appends {
				entries := []events.Entry{guarded(name, i, last)}
				for range w % 3 * 2 {
					entries = append(entries, events.Entry{Event: pod(events.Observed, name, i)})
				}
				seqs, err := l.Append(t.Context(), entries...)
				if err != nil {
					t.Errorf("%s append %d: %v", name, i, err)
					return
				}
				last = seqs[0]
				progress <- struct{}{}
			}
		})
	}
	for kill := range kills {
		for range writers * appends / (kills + 1) {
			<-progress
		}
		server.kill()
		server = startProcess(t, dir)
		p.retarget(t, server.url)
		t.Logf("kill %d", kill+1)
	}
	wg.Wait()
	total := events.Sequence(0)
	for w := range writers {
		total += events.Sequence(appends * (1 + w%3*2))
	}
	last, err := l.Last(t.Context())
	if err != nil || last != total {
		t.Errorf("the log ends at %d, %v; want %d", last, err, total)
	}
	readTo(t, sub, 1, last)
}
