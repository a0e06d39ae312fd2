// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"microvm.internal/guest/channel"
	pb "microvm.internal/guest/gen/microvmv1"
)

// The test binary is the agent when it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "--native" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// client is the host's end of a native agent.
type client struct {
	t       *testing.T
	session *yamux.Session
	process *exec.Cmd

	mu      sync.Mutex
	nextID  uint64
	waiting map[attachKey]chan *yamux.Stream
}

type attachKey struct {
	id    uint64
	stdio pb.Attach_Stdio
}

func startAgent(t *testing.T) *client {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "agent")
	process := exec.Command(os.Args[0], "--native", "3")
	process.ExtraFiles = []*os.File{theirs}
	process.Stderr = os.Stderr
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	if err := syscall.SetNonblock(pair[0], true); err != nil {
		t.Fatal(err)
	}
	ours := os.NewFile(uintptr(pair[0]), "host")
	// The host writes before it reads, as it does to a machine that has not started yet.
	if err := channel.WriteFrame(ours, &pb.Hello{Protocol: channel.Protocol, Version: "test"}); err != nil {
		t.Fatal(err)
	}
	var hello pb.Hello
	if err := channel.ReadFrame(ours, channel.MaxControl, &hello); err != nil || hello.Protocol != channel.Protocol {
		t.Fatalf("hello: %v %v", hello.Protocol, err)
	}
	config := yamux.DefaultConfig()
	config.LogOutput = io.Discard
	config.EnableKeepAlive = false
	config.MaxStreamWindowSize = 1 << 20
	session, err := yamux.Client(ours, config)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, session: session, process: process, waiting: make(map[attachKey]chan *yamux.Stream)}
	go c.acceptStdio()
	t.Cleanup(func() {
		session.Close()
		if err := process.Wait(); err != nil {
			t.Errorf("agent: %v", err)
		}
	})
	return c
}

func (c *client) acceptStdio() {
	for {
		stream, err := c.session.AcceptStream()
		if err != nil {
			return
		}
		var attach pb.Attach
		if err := channel.ReadFrame(stream, channel.MaxControl, &attach); err != nil {
			c.t.Errorf("attach: %v", err)
			return
		}
		c.attached(attachKey{attach.ExecId, attach.Stdio}) <- stream
	}
}

func (c *client) attached(key attachKey) chan *yamux.Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting[key] == nil {
		c.waiting[key] = make(chan *yamux.Stream, 1)
	}
	return c.waiting[key]
}

func (c *client) call(request *pb.Request) *yamux.Stream {
	c.t.Helper()
	stream, err := c.session.OpenStream()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := channel.WriteFrame(stream, request); err != nil {
		c.t.Fatal(err)
	}
	return stream
}

// running is an exec as the host sees it.
type hostExec struct {
	c       *client
	id      uint64
	control *yamux.Stream
	pid     int
}

func (c *client) start(request *pb.Exec) (*hostExec, *pb.ExecFailed) {
	c.t.Helper()
	c.mu.Lock()
	c.nextID++
	request.Id = c.nextID
	c.mu.Unlock()
	e := &hostExec{c: c, id: request.Id, control: c.call(&pb.Request{Call: &pb.Request_Exec{Exec: request}})}
	event := e.event()
	if failed := event.GetFailed(); failed != nil {
		return nil, failed
	}
	if event.GetStarted() == nil {
		c.t.Fatal("no started event")
	}
	e.pid = int(event.GetStarted().Pid)
	return e, nil
}

func (e *hostExec) event() *pb.ExecEvent {
	e.c.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	if err := e.control.SetReadDeadline(deadline); err != nil {
		e.c.t.Fatal(err)
	}
	var event pb.ExecEvent
	if err := channel.ReadFrame(e.control, channel.MaxControl, &event); err != nil {
		e.c.t.Fatalf("event: %v", err)
	}
	return &event
}

func (e *hostExec) stream(stdio pb.Attach_Stdio) *yamux.Stream {
	e.c.t.Helper()
	select {
	case stream := <-e.c.attached(attachKey{e.id, stdio}):
		return stream
	case <-time.After(20 * time.Second):
		e.c.t.Fatalf("no stream for %v", stdio)
		return nil
	}
}

func (e *hostExec) wait() *pb.Exited {
	e.c.t.Helper()
	exited := e.event().GetExited()
	if exited == nil {
		e.c.t.Fatal("no exited event")
	}
	if err := channel.ReadFrame(e.control, channel.MaxControl, &pb.ExecEvent{}); !errors.Is(err, io.EOF) {
		e.c.t.Errorf("after exited: %v", err)
	}
	e.control.Close()
	return exited
}

func (e *hostExec) send(control *pb.ExecControl) {
	e.c.t.Helper()
	if err := channel.WriteFrame(e.control, control); err != nil {
		e.c.t.Fatal(err)
	}
}

func (e *hostExec) signal(signal syscall.Signal) {
	e.c.t.Helper()
	e.send(&pb.ExecControl{Control: &pb.ExecControl_Signal{Signal: int32(signal)}})
}

type result struct {
	stdout, stderr string
	code, signal   int
}

// run executes a request with both outputs to the end.
func (c *client) run(request *pb.Exec, stdin io.Reader) result {
	c.t.Helper()
	request.Stdout = true
	request.Stderr = request.Tty == nil
	request.Stdin = stdin != nil
	e, failed := c.start(request)
	if failed != nil {
		c.t.Fatalf("%q: %v", request.Args, failed.Message)
	}
	if stdin != nil {
		stream := e.stream(pb.Attach_STDIO_STDIN)
		go func() {
			_, _ = io.Copy(stream, stdin)
			stream.Close()
		}()
	}
	var stdout, stderr bytes.Buffer
	var copying sync.WaitGroup
	collect := func(stdio pb.Attach_Stdio, buffer *bytes.Buffer) {
		stream := e.stream(stdio)
		copying.Go(func() {
			if _, err := io.Copy(buffer, stream); err != nil {
				c.t.Errorf("output: %v", err)
			}
			stream.Close()
		})
	}
	collect(pb.Attach_STDIO_STDOUT, &stdout)
	if request.Stderr {
		collect(pb.Attach_STDIO_STDERR, &stderr)
	}
	exited := e.wait()
	copying.Wait()
	return result{stdout.String(), stderr.String(), int(exited.Code), int(exited.Signal)}
}

func shell(script string) *pb.Exec {
	return &pb.Exec{Args: []string{"sh", "-c", script}}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

func mustAtoi(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
