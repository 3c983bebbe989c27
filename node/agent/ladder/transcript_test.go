package ladder

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write what the ladder does into testdata")

// A transcript is a pod, then commands (lines that begin with "> "), each followed by the steps that the ladder
// takes until it waits, and by the status where it changed. Time begins at 0s.
//
//	exit NAME CODE, lose NAME       an attempt ends; the runtime no longer knows it
//	probe NAME KIND ok|bad          a probe's verdict changes
//	after DURATION                  time passes
//	delete SECONDS, gone            the pod is being deleted; its object is gone
//	fail STEP REASON MESSAGE        the next step of this kind fails; "ended" as REASON: it was started and ended
//	hold STEP, done STEP NAME       background steps of this kind do not end; one ends
//	image NAME REF                  the pod's image changes
//	reject REASON                   the node does not admit the pod
//	cpu NAME QUANTITY               the container wants another CPU request; deny REASON: the node has it not; allow
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("%s: run with -update and compare. The ladder did:\n%s", f, got)
			}
		})
	}
}

var epoch = time.Date(2026, 11, 20, 14, 0, 0, 0, time.UTC)

// stage plays the world around the ladder.
type stage struct {
	*testing.T
	s      Situation
	prev   *v1.PodStatus
	shown  string
	fails  map[Kind]Outcome
	held   map[Kind]bool
	reject *Rejection
	denied string
	out    bytes.Buffer
}

func play(t *testing.T, text string) string {
	head, rest, found := strings.Cut(text, "\n> ")
	if !found {
		t.Fatal("no command")
	}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "u1", Generation: 1}}
	if err := yaml.UnmarshalStrict([]byte(head), &pod.Spec); err != nil {
		t.Fatal(err)
	}
	st := &stage{T: t, fails: map[Kind]Outcome{}, held: map[Kind]bool{},
		s: Situation{Pod: pod, Record: NewRecord(pod, epoch), Instances: map[string]Instance{}, Probes: map[string]Verdicts{}, Busy: map[string]bool{}, Now: epoch}}
	st.out.WriteString(head + "\n")
	scan := bufio.NewScanner(strings.NewReader("> " + rest))
	for scan.Scan() {
		line := scan.Text()
		switch {
		case strings.HasPrefix(line, "> "):
			fmt.Fprintf(&st.out, "%s\n", line)
			st.command(strings.Fields(line[2:]))
			st.drive()
		case strings.HasPrefix(line, "#"), line == "":
			fmt.Fprintf(&st.out, "%s\n", line)
		}
	}
	return st.out.String()
}

func (st *stage) command(f []string) {
	arg := func(i int) string {
		if i >= len(f) {
			st.Fatalf("command %v: argument %d is missing", f, i)
		}
		return f[i]
	}
	rec := func() *Container { return st.s.Record.Container(arg(1)) }
	switch f[0] {
	case "start":
	case "exit":
		code, err := strconv.Atoi(arg(2))
		if err != nil {
			st.Fatal(err)
		}
		in := st.s.Instances[rec().ID]
		in.Running, in.Exited, in.ExitCode, in.FinishedAt = false, true, int32(code), st.s.Now
		st.s.Instances[in.ID] = in
	case "lose":
		delete(st.s.Instances, rec().ID)
	case "probe":
		v, verdict := st.s.Probes[arg(1)], Failure
		if arg(3) == "ok" {
			verdict = Success
		}
		switch arg(2) {
		case "startup":
			v.Startup = verdict
		case "readiness":
			v.Readiness = verdict
		default:
			v.Liveness = verdict
		}
		st.s.Probes[arg(1)] = v
		st.s.Record.Judge(arg(1), v)
	case "after":
		d, err := time.ParseDuration(arg(1))
		if err != nil {
			st.Fatal(err)
		}
		st.s.Now = st.s.Now.Add(d)
	case "delete":
		n, err := strconv.ParseInt(arg(1), 10, 64)
		if err != nil {
			st.Fatal(err)
		}
		now := metav1.NewTime(st.s.Now)
		st.s.Pod.DeletionTimestamp, st.s.Pod.DeletionGracePeriodSeconds = &now, &n
	case "gone":
		st.s.Gone = true
	case "fail":
		st.fails[Kind(arg(1))] = Outcome{Err: errors.New(strings.Join(f[3:], " ")), Reason: arg(2), Ended: arg(2) == "ended"}
	case "hold":
		st.held[Kind(arg(1))] = true
	case "done":
		step := Step{Kind: Kind(arg(1))}
		if step.Kind != Fetch {
			step.Container = arg(2)
		}
		delete(st.s.Busy, step.Op())
		delete(st.held, step.Kind)
		st.s.Record.Did(step, st.outcome(step), st.s.Now)
	case "image":
		FindContainer(st.s.Pod, arg(1)).Image = arg(2)
	case "cpu":
		FindContainer(st.s.Pod, arg(1)).Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse(arg(2))}
		st.s.Pod.Generation++
	case "deny":
		st.denied = arg(1)
	case "allow":
		st.denied = ""
	case "reject":
		st.reject = &Rejection{Reason: arg(1), Message: "no room"}
	default:
		st.Fatalf("unknown command %v", f)
	}
}

// drive performs steps until the ladder waits.
func (st *stage) drive() {
	for n := 0; ; n++ {
		if n > 100 {
			st.Fatalf("the ladder does not come to rest:\n%s", st.out.String())
		}
		step := Next(st.s)
		if step.Kind == Wait {
			if !step.Until.IsZero() {
				fmt.Fprintf(&st.out, "  wait until %v\n", step.Until.Sub(epoch))
			}
			st.show()
			return
		}
		fmt.Fprintf(&st.out, "  %s\n", strings.TrimSpace(strings.Join([]string{string(step.Kind), step.Container, step.Reason, step.Message}, " ")))
		if step.Kind == Forget {
			return
		}
		if step.Background() && st.held[step.Kind] {
			st.s.Busy[step.Op()] = true
			continue
		}
		st.s.Record.Did(step, st.outcome(step), st.s.Now)
		if step.Kind == Start || step.Kind == Exited || step.Kind == Finish {
			st.show()
		}
	}
}

func (st *stage) outcome(step Step) Outcome {
	if o, fails := st.fails[step.Kind]; fails {
		delete(st.fails, step.Kind)
		if o.Ended {
			o.ID, o.Image = "x", FindContainer(st.s.Pod, step.Container).Image
			o.Attempt = st.s.Record.Container(step.Container).NextAttempt()
		}
		return o
	}
	var o Outcome
	switch step.Kind {
	case Admit:
		o.Reject, o.Allocated = st.reject, st.spec()
	case Allocate:
		if st.denied != "" {
			o.Pending = &Pending{Reason: st.denied, Message: "no room", At: st.s.Now, Generation: st.s.Pod.Generation}
		} else {
			o.Allocated = st.spec()
		}
	case Connect:
		o.IPs = []string{"10.0.0.7"}
	case Pull:
		o.ImageID = "sha256:1"
	case Start:
		rec := st.s.Record.Container(step.Container)
		o.Attempt, o.Image = rec.NextAttempt(), FindContainer(st.s.Pod, step.Container).Image
		o.ID = fmt.Sprintf("%s-%d", step.Container, o.Attempt)
		in := Instance{ID: o.ID, Running: true, StartedAt: st.s.Now}
		st.s.Instances[o.ID], o.Instance = in, &in
		st.s.Probes[step.Container] = Verdicts{}
	case Exited:
		if in, known := st.s.Instances[st.s.Record.Container(step.Container).ID]; known {
			o.Instance = &in
		}
	case Term, KillNow: // the test says when it exits
	}
	return o
}

func (st *stage) spec() map[string]v1.ResourceRequirements {
	out := map[string]v1.ResourceRequirements{}
	for _, c := range st.s.Pod.Spec.Containers {
		out[c.Name] = c.Resources
	}
	return out
}

// show writes the status in one line, and the events it makes, where it changed.
func (st *stage) show() {
	status := Status(st.s, st.prev, []string{"192.0.2.1"})
	verbs, _ := Changes(st.prev, status)
	st.prev = status
	var b strings.Builder
	fmt.Fprintf(&b, "%s", status.Phase)
	if status.Reason != "" {
		fmt.Fprintf(&b, " (%s: %s)", status.Reason, status.Message)
	}
	for _, c := range status.Conditions {
		if c.Status == v1.ConditionTrue && c.Type != v1.PodScheduled {
			fmt.Fprintf(&b, " +%s", c.Type)
			if c.Reason != "" && (c.Type == v1.PodResizePending || c.Type == v1.PodResizeInProgress) {
				fmt.Fprintf(&b, "(%s)", c.Reason)
			}
		}
	}
	for _, list := range [][]v1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses} {
		for _, c := range list {
			fmt.Fprintf(&b, " | %s %s", c.Name, describe(c.State))
			if c.LastTerminationState.Terminated != nil {
				fmt.Fprintf(&b, " last %s", describe(c.LastTerminationState))
			}
			if cpu := c.AllocatedResources.Cpu(); !cpu.IsZero() {
				fmt.Fprintf(&b, " cpu %s of %s", c.Resources.Requests.Cpu(), cpu)
			}
			if c.RestartCount > 0 {
				fmt.Fprintf(&b, " restarts %d", c.RestartCount)
			}
		}
	}
	if text := b.String(); text != st.shown {
		st.shown = text
		fmt.Fprintf(&st.out, "    = %s\n", text)
		if len(verbs) > 0 {
			fmt.Fprintf(&st.out, "    ! %s\n", strings.Join(verbs, " "))
		}
	}
}

func describe(s v1.ContainerState) string {
	switch {
	case s.Running != nil:
		return "running"
	case s.Terminated != nil:
		return fmt.Sprintf("%s(%d)", s.Terminated.Reason, s.Terminated.ExitCode)
	case s.Waiting != nil && s.Waiting.Message != "":
		return fmt.Sprintf("%s %q", s.Waiting.Reason, s.Waiting.Message)
	case s.Waiting != nil:
		return s.Waiting.Reason
	}
	return "-"
}
