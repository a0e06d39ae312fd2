// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "microvm.internal/guest/gen/microvmv1"
)

func TestExecReportsOutputAndStatus(t *testing.T) {
	c := startAgent(t)
	for _, test := range []struct {
		name  string
		exec  *pb.Exec
		stdin string
		want  result
	}{
		{"outputs apart", shell("echo out; echo err >&2"), "", result{stdout: "out\n", stderr: "err\n"}},
		{"exit code", shell("exit 42"), "", result{code: 42}},
		{"own signal", shell("kill -USR1 $$"), "", result{signal: 10}},
		{"stdin to the end", shell("cat; echo end"), "in\n", result{stdout: "in\nend\n"}},
		{"cwd", &pb.Exec{Args: []string{"pwd"}, Cwd: "/usr"}, "", result{stdout: "/usr\n"}},
		{"argument zero as given", shell("echo $0"), "", result{stdout: "sh\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c.t = t
			var stdin io.Reader
			if test.stdin != "" {
				stdin = strings.NewReader(test.stdin)
			}
			if got := c.run(test.exec, stdin); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestExecGivesDefaultsForWhatTheEnvironmentLacks(t *testing.T) {
	c := startAgent(t)
	hostname, _ := os.Hostname()
	got := c.run(&pb.Exec{Args: []string{"env"}, Env: []string{"A=1", "A=2"}, User: "root"}, nil)
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	for _, want := range []string{"A=2", "HOSTNAME=" + hostname, "HOME=/root",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q lacks %q", lines, want)
		}
	}
	if len(lines) != 4 {
		t.Errorf("environment is %q", lines)
	}
}

func TestExecFailsWithAReason(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := file("plain", "", 0o644)
	script := file("script", "no shebang\n", 0o755)
	orphan := file("orphan", "#!/no/such/interpreter\n", 0o755)
	c := startAgent(t)
	for _, test := range []struct {
		exec    *pb.Exec
		reason  pb.ExecFailed_Reason
		message string
	}{
		{&pb.Exec{}, pb.ExecFailed_REASON_NOT_FOUND, "exec: no command specified"},
		{&pb.Exec{Args: []string{""}}, pb.ExecFailed_REASON_NOT_FOUND, `exec: "": executable file not found in $PATH`},
		{&pb.Exec{Args: []string{"foo"}}, pb.ExecFailed_REASON_NOT_FOUND, `exec: "foo": executable file not found in $PATH`},
		{&pb.Exec{Args: []string{"sh"}, Env: []string{"PATH=/nowhere"}}, pb.ExecFailed_REASON_NOT_FOUND, `exec: "sh": executable file not found in $PATH`},
		{&pb.Exec{Args: []string{"/no/foo"}}, pb.ExecFailed_REASON_NOT_FOUND, `exec: "/no/foo": stat /no/foo: no such file or directory`},
		{&pb.Exec{Args: []string{dir}}, pb.ExecFailed_REASON_NOT_EXECUTABLE, fmt.Sprintf("exec: %q: is a directory", dir)},
		{&pb.Exec{Args: []string{plain}}, pb.ExecFailed_REASON_NOT_EXECUTABLE, fmt.Sprintf("exec: %q: permission denied", plain)},
		{&pb.Exec{Args: []string{"plain"}, Env: []string{"PATH=" + dir}}, pb.ExecFailed_REASON_NOT_EXECUTABLE, fmt.Sprintf("exec: %q: permission denied", plain)},
		{&pb.Exec{Args: []string{script}}, pb.ExecFailed_REASON_NOT_EXECUTABLE, fmt.Sprintf("exec %s: exec format error", script)},
		{&pb.Exec{Args: []string{orphan}}, pb.ExecFailed_REASON_NOT_FOUND, fmt.Sprintf("exec %s: no such file or directory", orphan)},
		{&pb.Exec{Args: []string{"true"}, Cwd: "/no/dir"}, pb.ExecFailed_REASON_BAD_CWD, `chdir to cwd "/no/dir": no such file or directory`},
		{&pb.Exec{Args: []string{"true"}, Cwd: plain, CreateCwd: true}, pb.ExecFailed_REASON_BAD_CWD, fmt.Sprintf("create cwd %q: not a directory", plain)},
		{&pb.Exec{Args: []string{"true"}, Cwd: "relative"}, pb.ExecFailed_REASON_BAD_CWD, `cwd "relative" is not absolute`},
		{&pb.Exec{Args: []string{"true"}, User: "nosuchuser"}, pb.ExecFailed_REASON_BAD_USER, "unable to find user nosuchuser: no matching entries in passwd file"},
		{&pb.Exec{Args: []string{"true"}, User: "0:nosuchgroup"}, pb.ExecFailed_REASON_BAD_USER, "unable to find group nosuchgroup: no matching entries in group file"},
		{&pb.Exec{Args: []string{"true", strings.Repeat("x", 200<<10)}}, pb.ExecFailed_REASON_LIMIT, "exec /usr/bin/true: argument list too long"},
		{&pb.Exec{Args: []string{"true", "a\x00b"}}, pb.ExecFailed_REASON_UNSPECIFIED, "exec /usr/bin/true: an argument or variable contains a NUL byte"},
	} {
		_, failed := c.start(test.exec)
		if failed == nil {
			t.Errorf("%q was started", test.exec.Args)
			continue
		}
		if failed.Reason != test.reason || failed.Message != test.message {
			t.Errorf("got %v %q, want %v %q", failed.Reason, failed.Message, test.reason, test.message)
		}
	}
}

func TestExecFailureLeavesTheSpawnerUsable(t *testing.T) {
	c := startAgent(t)
	if _, failed := c.start(&pb.Exec{Args: []string{"true"}, Cwd: "/no/dir"}); failed == nil {
		t.Fatal("was started")
	}
	if got := c.run(&pb.Exec{Args: []string{"pwd"}}, nil); got.stdout != "/\n" {
		t.Errorf("got %+v", got)
	}
}

func TestExecMakesTheWorkingDirectory(t *testing.T) {
	c := startAgent(t)
	dir := filepath.Join(t.TempDir(), "a/b")
	if got := c.run(&pb.Exec{Args: []string{"pwd"}, Cwd: dir, CreateCwd: true}, nil); got.stdout != dir+"\n" {
		t.Errorf("got %+v", got)
	}
}

func TestExecSwitchesUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else: run the tests as root, as CI does")
	}
	c := startAgent(t)
	for _, test := range []struct {
		user   string
		groups []string
		want   string
	}{
		{"12345:23456", nil, "12345 23456 23456"},
		{"12345", []string{"7", "8"}, "12345 0 0 7 8"},
		{"daemon", nil, "1 1 1"},
		{"daemon:0", nil, "1 0 0"},
		{"0", nil, "0 0 0"},
	} {
		got := c.run(&pb.Exec{Args: []string{"sh", "-c", "echo $(id -u) $(id -g) $(id -G)"}, User: test.user, Groups: test.groups}, nil)
		if strings.TrimSpace(got.stdout) != test.want {
			t.Errorf("%s: got %q %q, want %q", test.user, got.stdout, got.stderr, test.want)
		}
	}
}

func TestExecLetsAUserReopenItsOutput(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else: run the tests as root, as CI does")
	}
	c := startAgent(t)
	got := c.run(&pb.Exec{Args: []string{"sh", "-c", "echo hello > /proc/self/fd/1"}, User: "12345:12345"}, nil)
	if got.stdout != "hello\n" {
		t.Errorf("got %+v", got)
	}
}

func TestExecEndsAlthoughADescendantHoldsItsOutput(t *testing.T) {
	c := startAgent(t)
	for _, script := range []string{
		"sleep 300 & echo hello; exit 3",
		"(trap '' PIPE; while :; do echo hello; done) 2>/dev/null & sleep 0.1; exit 3",
	} {
		begin := time.Now()
		got := c.run(shell(script), nil)
		if got.code != 3 || !strings.HasPrefix(got.stdout, "hello\n") {
			t.Errorf("%s: got code %d and %d bytes", script, got.code, len(got.stdout))
		}
		if elapsed := time.Since(begin); elapsed > 10*time.Second {
			t.Errorf("%s: took %v", script, elapsed)
		}
	}
}

func TestExecDeliversAllOutputBeforeTheEnd(t *testing.T) {
	c := startAgent(t)
	const size = 20 << 20
	got := c.run(shell(fmt.Sprintf("head -c %d /dev/zero", size)), nil)
	if len(got.stdout) != size {
		t.Errorf("got %d bytes", len(got.stdout))
	}
	for range 50 {
		if got := c.run(shell("printf %60000s x"), nil); len(got.stdout) != 60000 {
			t.Fatalf("got %d bytes", len(got.stdout))
		}
	}
}

func TestExecWhoseInputNobodyReadsEnds(t *testing.T) {
	c := startAgent(t)
	endless := readerFunc(func(p []byte) (int, error) { return len(p), nil })
	if got := c.run(shell("exec <&-; sleep 0.1; exit 5"), endless); got.code != 5 {
		t.Errorf("got %+v", got)
	}
	if got := c.run(&pb.Exec{Args: []string{"true"}}, endless); got.code != 0 {
		t.Errorf("got %+v", got)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestExecEchoesALotThroughBothDirections(t *testing.T) {
	c := startAgent(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	if got := c.run(&pb.Exec{Args: []string{"cat"}}, bytes.NewReader(data)); got.stdout != string(data) {
		t.Errorf("got %d bytes of %d", len(got.stdout), len(data))
	}
}

func TestExecWithoutStdinReadsNothing(t *testing.T) {
	c := startAgent(t)
	if got := c.run(&pb.Exec{Args: []string{"cat"}}, nil); got.code != 0 || got.stdout != "" {
		t.Errorf("got %+v", got)
	}
}

func TestSignalReachesTheWholeGroup(t *testing.T) {
	c := startAgent(t)
	e, failed := c.start(&pb.Exec{Args: []string{"sh", "-c", "sleep 300 & echo $!; wait"}, Stdout: true})
	if failed != nil {
		t.Fatal(failed.Message)
	}
	line := make([]byte, 32)
	n, err := e.stream(pb.Attach_STDIO_STDOUT).Read(line)
	if err != nil {
		t.Fatal(err)
	}
	child := mustAtoi(t, strings.TrimSpace(string(line[:n])))
	for _, bad := range []syscall.Signal{0, -1, 65, 1 << 20} {
		e.signal(bad)
	}
	if !alive(child) {
		t.Fatal("a signal that does not exist killed the group")
	}
	e.signal(syscall.SIGTERM)
	if exited := e.wait(); exited.Signal != int32(syscall.SIGTERM) {
		t.Errorf("got %v", exited)
	}
	eventually(t, "the child is gone", func() bool { return !alive(child) })
}

func TestEndOfTheCallKillsTheGroup(t *testing.T) {
	c := startAgent(t)
	e, failed := c.start(shell("trap '' TERM HUP; sleep 300 & wait"))
	if failed != nil {
		t.Fatal(failed.Message)
	}
	e.control.Close()
	eventually(t, "the process is gone", func() bool { return !alive(e.pid) })
}

func TestLostChannelKillsEverything(t *testing.T) {
	c := startAgent(t)
	e, failed := c.start(shell("trap '' TERM HUP; while :; do sleep 1; done"))
	if failed != nil {
		t.Fatal(failed.Message)
	}
	c.session.Close()
	eventually(t, "the process is gone", func() bool { return !alive(e.pid) })
}

func TestOrphansAreReaped(t *testing.T) {
	c := startAgent(t)
	got := c.run(shell("sleep 0.2 & echo $!"), nil)
	orphan := mustAtoi(t, strings.TrimSpace(got.stdout))
	eventually(t, "the orphan is reaped", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", orphan))
		return os.IsNotExist(err)
	})
}

func TestConcurrentExecsKeepTheirStatuses(t *testing.T) {
	c := startAgent(t)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			got := c.run(shell(fmt.Sprintf("echo %d; exit %d", i, i)), nil)
			if got.code != i || got.stdout != fmt.Sprintf("%d\n", i) {
				t.Errorf("%d: got %+v", i, got)
			}
		})
	}
	all.Wait()
}

func TestASlowReaderStallsOnlyItself(t *testing.T) {
	c := startAgent(t)
	slow, failed := c.start(&pb.Exec{Args: []string{"cat", "/dev/zero"}, Stdout: true})
	if failed != nil {
		t.Fatal(failed.Message)
	}
	slow.stream(pb.Attach_STDIO_STDOUT) // and never read from it
	for range 20 {
		if got := c.run(shell("echo hello"), nil); got.stdout != "hello\n" {
			t.Fatalf("got %+v", got)
		}
	}
	slow.control.Close()
}

func TestTerminal(t *testing.T) {
	c := startAgent(t)
	got := c.run(&pb.Exec{
		Args: []string{"sh", "-c", "stty size; tty; echo $TERM; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all"},
		Tty:  &pb.Tty{Rows: 30, Columns: 100},
	}, nil)
	lines := strings.Split(got.stdout, "\r\n")
	if len(lines) != 5 || lines[0] != "30 100" || !strings.HasPrefix(lines[1], "/dev/pts/") || lines[2] != "xterm" || lines[3] != "all" {
		t.Errorf("got %+v", got)
	}
}

func TestTerminalResizes(t *testing.T) {
	c := startAgent(t)
	e, failed := c.start(&pb.Exec{
		Args:   []string{"sh", "-c", "trap 'stty size; exit 7' WINCH; echo ready; while :; do sleep 0.05; done"},
		Tty:    &pb.Tty{Rows: 24, Columns: 80},
		Stdout: true,
	})
	if failed != nil {
		t.Fatal(failed.Message)
	}
	output := e.stream(pb.Attach_STDIO_STDOUT)
	if _, err := io.ReadFull(output, make([]byte, len("ready\r\n"))); err != nil {
		t.Fatal(err)
	}
	e.send(&pb.ExecControl{Control: &pb.ExecControl_Resize{Resize: &pb.Tty{Rows: 50, Columns: 132}}})
	rest, err := io.ReadAll(output)
	if err != nil || string(rest) != "50 132\r\n" {
		t.Errorf("got %q %v", rest, err)
	}
	if exited := e.wait(); exited.Code != 7 {
		t.Errorf("got %v", exited)
	}
}

func TestTerminalEndsItsInput(t *testing.T) {
	c := startAgent(t)
	got := c.run(&pb.Exec{Args: []string{"cat"}, Tty: &pb.Tty{}}, strings.NewReader("hello\n"))
	if got.code != 0 || strings.Count(got.stdout, "hello\r\n") != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestTerminalDeliversAllOutput(t *testing.T) {
	c := startAgent(t)
	for range 10 {
		got := c.run(&pb.Exec{Args: []string{"sh", "-c", "seq 20000; sleep 300 &"}, Tty: &pb.Tty{Rows: 24, Columns: 80}}, nil)
		if !strings.HasSuffix(got.stdout, "20000\r\n") {
			t.Fatalf("got %d bytes, ending in %q", len(got.stdout), got.stdout[max(0, len(got.stdout)-20):])
		}
	}
}

func TestTerminalNobodyListensTo(t *testing.T) {
	c := startAgent(t)
	e, failed := c.start(&pb.Exec{Args: []string{"sh", "-c", "seq 100000; exit 4"}, Tty: &pb.Tty{}})
	if failed != nil {
		t.Fatal(failed.Message)
	}
	if exited := e.wait(); exited.Code != 4 {
		t.Errorf("got %v", exited)
	}
}

func TestNothingStartsDuringAShutdown(t *testing.T) {
	c := startAgent(t)
	stubborn, failed := c.start(&pb.Exec{
		Args:   []string{"sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"},
		Stdout: true,
	})
	if failed != nil {
		t.Fatal(failed.Message)
	}
	if _, err := io.ReadFull(stubborn.stream(pb.Attach_STDIO_STDOUT), make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	c.call(&pb.Request{Call: &pb.Request_Shutdown{Shutdown: &pb.Shutdown{GraceMillis: 1000}}})
	eventually(t, "starting is refused", func() bool {
		e, failed := c.start(&pb.Exec{Args: []string{"true"}})
		if failed == nil {
			e.wait()
			return false
		}
		return strings.HasSuffix(failed.Message, "the machine is shutting down")
	})
	stubborn.wait()
}

func TestOutputEndsWhenTheProcessClosesIt(t *testing.T) {
	c := startAgent(t)
	e, failed := c.start(&pb.Exec{Args: []string{"sh", "-c", "echo bye; exec >&-; sleep 300"}, Stdout: true})
	if failed != nil {
		t.Fatal(failed.Message)
	}
	stream := e.stream(pb.Attach_STDIO_STDOUT)
	if err := stream.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(stream); err != nil || string(text) != "bye\n" {
		t.Errorf("got %q %v", text, err)
	}
	e.signal(syscall.SIGKILL)
	e.wait()
}
