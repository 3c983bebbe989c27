package jetstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/orlog-io/orlog/events"
)

// Access says who may use an embedded server, and what for: everybody else is turned away. Keys are the
// public keys of credentials, see package credential. It may change while the server runs: [Server.SetAccess].
type Access struct {
	// Services is the key of the control plane, which may do everything but delete, empty or change a stream.
	// Required.
	Services string
	// Nodes are the keys of the agents, by node name; each of a node's keys will do. An agent may append what
	// its own node observes and its own lease, take in the streams dialled to its node, and read both logs.
	Nodes map[string][]string
	// Readers are the keys of integrators, by a name for each. A reader may read the log and the live events.
	Readers map[string][]string
}

// CheckName reports what is wrong with the name of a node or reader, which becomes part of a NATS account's.
func CheckName(name string) error {
	if name == "" || !legalAccount.MatchString(nodeName(name)) {
		return fmt.Errorf("access: name %q: a name may consist of letters, digits, dots, - and _ only", name)
	}
	return nil
}

// logAccount is the NATS account that holds the streams, and the control plane's alone. Every node and every
// reader has an account of its own and reaches the streams only through the subjects imported there.
//
// Permissions on subjects in one account for all would not do: a server sends an answer to whatever subject
// the question names, and a consumer's messages to whatever subject its maker names, unchecked. A direct get
// of an event of one's own that names "$JS.API.STREAM.DELETE.ORLOG" or "orlog.desired..." for its answer
// would delete the log or forge an intent. Across accounts, answers go back to the asking account and nowhere
// else (and for consumers' messages see confine.go). The permissions that users have besides are there to
// turn a mistake into an error that names the subject.
const logAccount = "ORLOG"

// What the subjects of the control plane's account begin with that others reach under other names.
const (
	// confineRoot.<account>.<rest of the API's subject>: requests of an account to create a consumer.
	confineRoot = "orlog-confined"
	// deliverRoot.<account>.<inbox>: what consumers send to an account's inboxes.
	deliverRoot = "orlog-deliver"
	inboxRoot   = "_INBOX."
	apiRoot     = "$JS.API."
)

// ErrForbidden: the server's permissions do not let this connection do that. It is the credentials that are
// not for it: trying again does not help.
var ErrForbidden = errors.New("not permitted by the log's server")

type userConfig struct {
	Key         string             `json:"nkey"`
	Permissions *permissionsConfig `json:"permissions,omitempty"`
}

type permissionsConfig struct {
	Publish   *permitted `json:"publish,omitempty"`
	Subscribe *permitted `json:"subscribe,omitempty"`
}

type permitted struct {
	Allow []string `json:"allow,omitempty"`
	Deny  []string `json:"deny,omitempty"`
}

// irreversible is what nobody may ask of the server, the control plane included, which has no need to: no bug and no
// mistake shall cost the log. The stream's own deny_delete and deny_purge do not cover the stream as a whole.
var irreversible = []string{apiRoot + "STREAM.DELETE.>", apiRoot + "STREAM.PURGE.>", apiRoot + "STREAM.UPDATE.>",
	apiRoot + "STREAM.RESTORE.>", apiRoot + "STREAM.MSG.DELETE.>"}

type exportConfig struct {
	Service  string   `json:"service,omitempty"`
	Stream   string   `json:"stream,omitempty"`
	Response string   `json:"response,omitempty"` // "stream" where an answer has several messages
	Accounts []string `json:"accounts"`
}

type importConfig struct {
	Service *foreign `json:"service,omitempty"`
	Stream  *foreign `json:"stream,omitempty"`
	To      string   `json:"to,omitempty"` // how this account calls it; "": the same
}

// foreign is a subject of another account.
type foreign struct {
	Account string `json:"account"`
	Subject string `json:"subject"`
}

type accountConfig struct {
	JetStream string         `json:"jetstream,omitempty"`
	Users     []userConfig   `json:"users"`
	Exports   []exportConfig `json:"exports,omitempty"`
	Imports   []importConfig `json:"imports,omitempty"`
}

// nodeName and readerName are the accounts' names, single tokens.
func nodeName(node string) string     { return accountName("node", node) }
func readerName(reader string) string { return accountName("reader", reader) }

func accountName(kind, name string) string {
	return kind + "_" + strings.ReplaceAll(events.NodeToken(name), "%", "=") // the server formats it into its messages
}

// legalAccount is what a name may be made of: what node names are made of, so nothing needs quoting.
var legalAccount = regexp.MustCompile(`^[A-Za-z0-9_=-]+$`)

// config is the access in the server's configuration format, of which JSON is a part.
func (a *Access) config() (string, error) {
	if err := checkKey("services", a.Services); err != nil {
		return "", err
	}
	core := &accountConfig{JetStream: "enabled", Users: []userConfig{{Key: a.Services,
		Permissions: &permissionsConfig{Publish: &permitted{Deny: irreversible}}}}}
	accounts := map[string]*accountConfig{logAccount: core}
	for _, node := range slices.Sorted(maps.Keys(a.Nodes)) {
		g := grantFor(nodeName(node))
		g.read(StreamName)
		g.read(VolatileStreamName)
		g.work(node)
		if err := g.addTo(accounts, core, a.Nodes[node]); err != nil {
			return "", fmt.Errorf("node %q: %w", node, err)
		}
	}
	for _, reader := range slices.Sorted(maps.Keys(a.Readers)) {
		g := grantFor(readerName(reader))
		g.read(StreamName)
		g.hear(LiveRoot+".>", LiveRoot+".>")
		if err := g.addTo(accounts, core, a.Readers[reader]); err != nil {
			return "", fmt.Errorf("reader %q: %w", reader, err)
		}
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // the server's parser does not know JSON's \u003e
	err := e.Encode(map[string]any{"accounts": accounts})
	return text.String(), err
}

func checkKey(of, key string) error {
	if !nkeys.IsValidPublicUserKey(key) {
		return fmt.Errorf("access: key of %s: %q is no public key of a NATS user", of, key)
	}
	return nil
}

// grant is what one account outside of the control plane's gets, and the other side of each.
type grant struct {
	name             string
	account          accountConfig
	core             accountConfig // what is added to the control plane's account
	publish, receive []string
}

func grantFor(account string) *grant {
	g := &grant{name: account}
	// Answers to requests come to the account's own inboxes anyway; consumers' messages like this.
	g.hear(deliverRoot+"."+account+"."+inboxRoot+">", inboxRoot+">")
	// An account that does not import this one is given the whole API by the server, for streams of its own.
	g.ask(apiRoot+"INFO", apiRoot+"INFO", "")
	return g
}

// ask lets the account send messages to the control plane's account, under the same subject or another there.
func (g *grant) ask(subject, there, response string) {
	g.core.Exports = append(g.core.Exports, exportConfig{Service: there, Response: response, Accounts: []string{g.name}})
	i := importConfig{Service: &foreign{logAccount, there}}
	if subject != there {
		i.To = subject
	}
	g.account.Imports = append(g.account.Imports, i)
	g.publish = append(g.publish, subject)
}

// hear lets the account receive what is sent in the control plane's account.
func (g *grant) hear(there, here string) {
	g.core.Exports = append(g.core.Exports, exportConfig{Stream: there, Accounts: []string{g.name}})
	i := importConfig{Stream: &foreign{logAccount, there}}
	if here != there {
		i.To = here
	}
	g.account.Imports = append(g.account.Imports, i)
	g.receive = append(g.receive, here)
}

// read grants the reading of a stream.
func (g *grant) read(stream string) {
	for _, s := range []string{"STREAM.INFO.*", "STREAM.MSG.GET.*", "CONSUMER.INFO.*.*", "CONSUMER.DELETE.*.*"} {
		s = apiRoot + strings.Replace(s, "*", stream, 1)
		g.ask(s, s, "")
	}
	for _, s := range []string{"DIRECT.GET.*", "DIRECT.GET.*.>", "CONSUMER.MSG.NEXT.*.*"} {
		s = apiRoot + strings.Replace(s, "*", stream, 1)
		g.ask(s, s, "stream")
	}
	for _, s := range []string{"CONSUMER.CREATE.*", "CONSUMER.CREATE.*.>", "CONSUMER.DURABLE.CREATE.*.*"} {
		s = strings.Replace(s, "*", stream, 1)
		g.ask(apiRoot+s, confineRoot+"."+g.name+"."+s, "")
	}
	for _, s := range []string{"$JS.FC." + stream + ".>", "$JS.ACK." + stream + ".>"} {
		g.ask(s, s, "")
	}
}

// work grants what a node's agent does besides reading.
func (g *grant) work(node string) {
	token := events.NodeToken(node)
	observed := strings.Join([]string{events.SubjectRoot, string(events.Observed), "*.*.*.*", token}, ".")
	g.ask(observed, observed, "")
	lease := events.Subject{Class: events.Desired, Key: events.Key{Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: node}}
	volatile := volatileRoot + strings.TrimPrefix(lease.String(), events.SubjectRoot)
	g.ask(volatile, volatile, "")

	toNode, fromNode := streamSubject(node, "*", "n"), streamSubject(node, "*", "c")
	g.hear(toNode, toNode)
	g.ask(fromNode, fromNode, "")
	// A dial is a question to the node: this way round, it is the node's account that exports.
	g.account.Exports = append(g.account.Exports, exportConfig{Service: dialSubject(node), Accounts: []string{logAccount}})
	g.core.Imports = append(g.core.Imports, importConfig{Service: &foreign{g.name, dialSubject(node)}})
	g.receive = append(g.receive, dialSubject(node))
	g.publish = append(g.publish, "_R_.>") // where the server wants answers to foreign questions
}

// addTo puts the account beside the others.
func (g *grant) addTo(accounts map[string]*accountConfig, core *accountConfig, keys []string) error {
	for _, key := range keys {
		if err := checkKey(g.name, key); err != nil {
			return err
		}
		g.account.Users = append(g.account.Users, userConfig{Key: key, Permissions: &permissionsConfig{Publish: &permitted{Allow: g.publish}, Subscribe: &permitted{Allow: g.receive}}})
	}
	if !legalAccount.MatchString(g.name) {
		return fmt.Errorf("access: a name may consist of letters, digits, dots, - and _ only")
	}
	if accounts[g.name] != nil {
		return fmt.Errorf("access: name given twice")
	}
	accounts[g.name] = &g.account
	core.Imports = append(core.Imports, g.core.Imports...)
	for _, e := range g.core.Exports {
		core.export(e)
	}
	return nil
}

// export adds an export, or the accounts it is for to the one that is there.
func (a *accountConfig) export(e exportConfig) {
	for i, is := range a.Exports {
		if is.Service == e.Service && is.Stream == e.Stream {
			a.Exports[i].Accounts = slices.Concat(is.Accounts, e.Accounts)
			return
		}
	}
	a.Exports = append(a.Exports, e)
}
