package gateway

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/orlog-io/orlog/events/jetstream"
)

// secondGateway has the test binary be one more gateway on another's log, in a process of its own, as there
// is room for one in a process. It holds the log's address, a folder and the address to listen on.
const secondGateway = "ORLOG_TEST_SECOND_GATEWAY"

const secondAdvertise = "198.51.100.2"

// TestSecondGateway is that gateway: no test by itself.
func TestSecondGateway(t *testing.T) {
	place := strings.Fields(os.Getenv(secondGateway))
	if len(place) != 3 {
		return
	}
	c := &cluster{dir: place[1], listen: place[2], advertise: secondAdvertise}
	conn, err := jetstream.Connect(t.Context(), jetstream.Options{URL: place[0], Name: "second", MustExist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if c.log, err = conn.Log(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.volatile, err = conn.Volatile(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.start(t)
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadByte() // until the parent closes it
	c.stop()
}

// startSecond starts a second gateway on c's log, on the same port of another address. stop ends it in order.
func startSecond(t *testing.T, c *cluster, address string) (config *rest.Config, stop func()) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "pki"), os.DirFS(filepath.Join(c.dir, "pki"))); err != nil {
		t.Fatal(err) // gateways of one cluster share its authority and keys
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestSecondGateway$", "-test.v")
	cmd.Env = append(os.Environ(), secondGateway+"="+c.nats+" "+dir+" "+address)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(out)
	var all strings.Builder
	ready := false
	for !ready && said.Scan() {
		ready = said.Text() == "ready"
		fmt.Fprintln(&all, said.Text())
	}
	stop = sync.OnceFunc(func() {
		in.Close()
		for said.Scan() {
			fmt.Fprintln(&all, said.Text())
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the second gateway: %v\n%s", err, all.String())
		}
	})
	t.Cleanup(stop)
	if !ready {
		t.Fatal("the second gateway did not become ready")
	}
	config = c.admin(t)
	config.Host = "https://" + address
	return config, stop
}

// TestSeveralGateways: two gateways, two processes, one log.
func TestSeveralGateways(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := newDurableClusterAt(t, "127.0.0.1:"+port, "198.51.100.1")
	config, stop := startSecond(t, c, "127.0.0.2:"+port)
	both := []*kubernetes.Clientset{clientOf(t, c.admin(t)), clientOf(t, config)}
	t.Run("both are endpoints", func(t *testing.T) { endpointsAre(t, both[0], "198.51.100.1", secondAdvertise) })
	t.Run("read what another wrote", func(t *testing.T) { readOthersWrites(t, both) })
	t.Run("conflicts", func(t *testing.T) { conflicting(t, both) })
	t.Run("addresses and ports", func(t *testing.T) { allocateAtOnce(t, both) })
	stop()
	t.Run("the one that left is no endpoint", func(t *testing.T) { endpointsAre(t, both[0], "198.51.100.1") })
}

func endpointsAre(t *testing.T, client kubernetes.Interface, want ...string) {
	eventually(t, "endpoints of the gateways", func() error {
		e, err := client.CoreV1().Endpoints("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
		if err != nil {
			return err
		}
		var got []string
		for _, s := range e.Subsets {
			for _, a := range s.Addresses {
				got = append(got, a.IP)
			}
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("endpoints %v, want %v", got, want)
		}
		sliced, err := client.DiscoveryV1().EndpointSlices("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
		if err == nil && len(sliced.Endpoints) != len(want) {
			err = fmt.Errorf("slice: %v", sliced.Endpoints)
		}
		return err
	})
}

// readOthersWrites: what one gateway has acknowledged, every consistent read of the other shows at once.
func readOthersWrites(t *testing.T, both []*kubernetes.Clientset) {
	ctx := t.Context()
	for i := range 40 {
		writer, reader := both[i%2].CoreV1().ConfigMaps("default"), both[1-i%2].CoreV1().ConfigMaps("default")
		name := fmt.Sprint("shared-", i)
		made, err := writer.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"of": "two"}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := reader.Get(ctx, name, metav1.GetOptions{})
		if err != nil || got.ResourceVersion != made.ResourceVersion {
			t.Fatalf("get of %s: %v, %v", name, got.ResourceVersion, err)
		}
		for what, o := range map[string]metav1.ListOptions{"consistent": {}, "by label": {LabelSelector: "of=two"}, "in pages": {Limit: 500},
			"not older": {ResourceVersion: made.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan}} {
			list, err := reader.List(ctx, o)
			if err != nil {
				t.Fatalf("%s list: %v", what, err)
			}
			if !slices.ContainsFunc(list.Items, func(m corev1.ConfigMap) bool { return m.Name == name }) {
				t.Fatalf("%s list lacks %s", what, name)
			}
		}
		if _, err := reader.List(ctx, metav1.ListOptions{ResourceVersion: "0"}); err != nil { // may be old
			t.Fatal(err)
		}
		if err := writer.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := reader.Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Fatalf("get of %s after its deletion: %v", name, err)
		}
	}
}

// conflicting: both update one object from the same resourceVersion; one wins.
func conflicting(t *testing.T, both []*kubernetes.Clientset) {
	ctx := t.Context()
	is, err := both[0].CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "contended"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		var wg sync.WaitGroup
		won := make([]*corev1.ConfigMap, 2)
		for i, client := range both {
			wg.Go(func() {
				want := is.DeepCopy()
				want.Data = map[string]string{"round": fmt.Sprint(round, " by ", i)}
				got, err := client.CoreV1().ConfigMaps("default").Update(ctx, want, metav1.UpdateOptions{})
				if err == nil {
					won[i] = got
				} else if !apierrors.IsConflict(err) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if (won[0] == nil) == (won[1] == nil) {
			t.Fatalf("round %d: of two updates of one version, %v and %v succeeded", round, won[0] != nil, won[1] != nil)
		}
		if is = won[0]; is == nil {
			is = won[1]
		}
	}
}

// allocateAtOnce: Services made through both at the same time never share a port or an address.
func allocateAtOnce(t *testing.T, both []*kubernetes.Clientset) {
	ctx := t.Context()
	const each = 16
	var mu sync.Mutex
	ports, addresses := map[int32]string{}, map[string]string{}
	create := func(client kubernetes.Interface, s *corev1.Service) bool {
		made, err := client.CoreV1().Services("default").Create(ctx, s, metav1.CreateOptions{})
		if err != nil {
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "already allocated") {
				t.Error(err)
			}
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		if other := ports[made.Spec.Ports[0].NodePort]; other != "" && made.Spec.Ports[0].NodePort != 0 {
			t.Errorf("%s and %s share the port %d", other, made.Name, made.Spec.Ports[0].NodePort)
		}
		if other := addresses[made.Spec.ClusterIP]; other != "" {
			t.Errorf("%s and %s share the address %s", other, made.Name, made.Spec.ClusterIP)
		}
		ports[made.Spec.Ports[0].NodePort], addresses[made.Spec.ClusterIP] = made.Name, made.Name
		return true
	}
	service := func(name string, port int32, address string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: address,
			Ports: []corev1.ServicePort{{Port: 80, NodePort: port}}}}
	}
	t.Run("any", func(t *testing.T) {
		var wg sync.WaitGroup
		for n := range 2 * each {
			wg.Go(func() {
				if !create(both[n%2], service(fmt.Sprint("any-", n), 0, "")) {
					t.Error("none was to be had")
				}
			})
		}
		wg.Wait()
	})
	// Of the lower parts of the ranges, which are not handed out by chance.
	for what, want := range map[string]*corev1.Service{"port": service("", 30001, ""), "address": service("", 0, "10.96.0.77")} {
		t.Run("the same "+what, func(t *testing.T) {
			var wg sync.WaitGroup
			won := make([]bool, each)
			for n := range each {
				wg.Go(func() {
					s := want.DeepCopy()
					s.Name = fmt.Sprint("same-", what, "-", n)
					won[n] = create(both[n%2], s)
				})
			}
			wg.Wait()
			if winners := slices.DeleteFunc(won, func(w bool) bool { return !w }); len(winners) != 1 {
				t.Errorf("%d of %d got it", len(winners), each)
			}
		})
	}
	// Given up through one, free through the other: as soon as the first has seen its own Service.
	again := service("again", 30002, "10.96.0.78")
	for i := range 6 {
		eventually(t, fmt.Sprint("round ", i), func() error {
			_, err := both[i%2].CoreV1().Services("default").Create(ctx, again, metav1.CreateOptions{})
			return err
		})
		if err := both[1-i%2].CoreV1().Services("default").Delete(ctx, again.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}
