// SPDX-License-Identifier: Apache-2.0

// Package exec serves the exec call: it starts processes, carries their stdio, and reports how they ended.
package exec

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"

	"microvm.internal/guest/channel"
	"microvm.internal/guest/crash"
	pb "microvm.internal/guest/gen/microvmv1"
	"microvm.internal/guest/reaper"
	"microvm.internal/guest/user"
)

// Server starts processes for the host.
type Server struct {
	Session *channel.Session
	Reaper  *reaper.Reaper
	// Native serves tests and benchmarks on a host: "" as the user is whoever runs the agent, and processes die
	// with it.
	Native bool

	spawner func() *spawner

	mu       sync.Mutex
	calls    int           // being served
	finished chan struct{} // closed when calls is 0; nil unless somebody waits
}

// NewServer returns a Server. Its thread starts with the first process, by when the root has been switched.
func NewServer(session *channel.Session, children *reaper.Reaper, native bool) *Server {
	return &Server{Session: session, Reaper: children, Native: native, spawner: sync.OnceValue(newSpawner)}
}

// Serve answers one call and returns when it is over.
func (s *Server) Serve(control *yamux.Stream, request *pb.Exec) {
	s.count(1)
	defer s.count(-1)
	defer control.Close()
	if err := s.serve(control, request); err != nil {
		slog.Debug("exec: the call ended early", "id", request.Id, "error", err)
	}
}

// Finished returns a channel that is closed once no call is being served: every end has been reported.
func (s *Server) Finished() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == 0 {
		finished := make(chan struct{})
		close(finished)
		return finished
	}
	if s.finished == nil {
		s.finished = make(chan struct{})
	}
	return s.finished
}

func (s *Server) count(change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls += change
	if s.calls == 0 && s.finished != nil {
		close(s.finished)
		s.finished = nil
	}
}

func (s *Server) serve(control *yamux.Stream, request *pb.Exec) error {
	running, err := s.start(request)
	if err != nil {
		failure := asFailure(err)
		return channel.WriteFrame(control, &pb.ExecEvent{Event: &pb.ExecEvent_Failed{
			Failed: &pb.ExecFailed{Reason: failure.Reason, Message: failure.Message},
		}})
	}
	defer running.files.close()
	go running.followControl(control)

	outputs, err := s.announce(control, request.Id, running)
	if err != nil {
		running.kill()
		return err
	}
	<-running.process.Done()
	for _, output := range outputs {
		output.finish()
	}
	return s.conclude(control, outputs, running.process.Status())
}

// announce attaches the stdio and says that the process has started.
func (s *Server) announce(control *yamux.Stream, id uint64, r *running) ([]*output, error) {
	s.Session.Cork()
	defer s.Session.Uncork()
	outputs, err := s.attach(id, r)
	if err != nil {
		return nil, err
	}
	return outputs, channel.WriteFrame(control, &pb.ExecEvent{Event: &pb.ExecEvent_Started{
		Started: &pb.Started{Pid: int32(r.process.Pid())},
	}})
}

// conclude ends the outputs and says how the process ended.
func (s *Server) conclude(control *yamux.Stream, outputs []*output, status reaper.Status) error {
	s.Session.Cork()
	defer s.Session.Uncork()
	for _, output := range outputs {
		output.stream.Close()
	}
	err := channel.WriteFrame(control, &pb.ExecEvent{Event: &pb.ExecEvent_Exited{
		Exited: &pb.Exited{Code: int32(status.Code), Signal: int32(status.Signal)},
	}})
	return errors.Join(err, control.Close())
}

// running is a process that was started.
type running struct {
	process *reaper.Process
	files   files
}

func (r *running) kill() { _ = r.process.SignalGroup(unix.SIGKILL) } // ESRCH: it has ended

// followControl obeys the host. The end of the host's side, however it comes about, is the end of the process.
func (r *running) followControl(control *yamux.Stream) {
	defer crash.Guard()
	for {
		var message pb.ExecControl
		if err := channel.ReadFrame(control, channel.MaxControl, &message); err != nil {
			r.kill()
			return
		}
		switch action := message.Control.(type) {
		case *pb.ExecControl_Signal:
			if action.Signal < 1 || action.Signal > 64 {
				slog.Warn("exec: no such signal", "signal", action.Signal)
				continue
			}
			_ = r.process.SignalGroup(unix.Signal(action.Signal)) // ESRCH: it has ended
		case *pb.ExecControl_Resize:
			if err := r.files.resize(action.Resize); err != nil {
				slog.Warn("exec: resize", "error", err)
			}
		}
	}
}

// start checks the request and forks.
func (s *Server) start(request *pb.Exec) (*running, error) {
	if len(request.Args) == 0 {
		return nil, fail(pb.ExecFailed_REASON_NOT_FOUND, "exec: no command specified")
	}
	directory := request.Cwd
	if directory == "" {
		directory = "/"
	}
	if !strings.HasPrefix(directory, "/") {
		return nil, fail(pb.ExecFailed_REASON_BAD_CWD, "cwd %q is not absolute", directory)
	}
	who, credential, err := s.identity(request)
	if err != nil {
		return nil, fail(pb.ExecFailed_REASON_BAD_USER, "%v", err)
	}
	hostname, _ := os.Hostname() // cannot fail on Linux

	result := &running{}
	child, err := result.files.open(request, int(who.UID))
	if err != nil {
		return nil, err
	}
	defer child.close()
	command := &command{
		args:      request.Args,
		env:       completeEnv(request.Env, envDefaults{home: who.Home, hostname: hostname, tty: request.Tty != nil}),
		directory: directory,
		createDir: request.CreateCwd,
		files:     child.fds,
		attr: syscall.SysProcAttr{
			Setsid:     true,
			Setctty:    request.Tty != nil,
			Credential: credential,
		},
	}
	if s.Native {
		command.attr.Pdeathsig = syscall.SIGKILL
	}
	result.process, err = s.spawner().start(s.Reaper, command)
	if err != nil {
		result.files.close()
		return nil, err
	}
	return result, nil
}

// identity resolves the user. No credential means: stay who you are.
func (s *Server) identity(request *pb.Exec) (user.User, *syscall.Credential, error) {
	if s.Native && request.User == "" && len(request.Groups) == 0 {
		home := os.Getenv("HOME")
		if home == "" {
			home = "/"
		}
		return user.User{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Home: home}, nil, nil
	}
	who, err := user.Lookup(user.Image, request.User, request.Groups)
	if err != nil {
		return user.User{}, nil, err
	}
	return who, &syscall.Credential{Uid: who.UID, Gid: who.GID, Groups: who.Groups}, nil
}

// attach opens a stream to the host for each file the request wants, and starts the copying.
func (s *Server) attach(id uint64, r *running) ([]*output, error) {
	f := &r.files
	type pair struct {
		file  *os.File
		stdio pb.Attach_Stdio
	}
	var outputs []*output
	for _, p := range []pair{
		{f.stdin, pb.Attach_STDIO_STDIN},
		{f.stdout, pb.Attach_STDIO_STDOUT},
		{f.stderr, pb.Attach_STDIO_STDERR},
	} {
		if p.file == nil {
			continue
		}
		stream, err := s.Session.OpenStream()
		if err != nil {
			return nil, fmt.Errorf("attach: %w", err)
		}
		if err := channel.WriteFrame(stream, &pb.Attach{ExecId: id, Stdio: p.stdio}); err != nil {
			return nil, errors.Join(fmt.Errorf("attach: %w", err), stream.Close())
		}
		if p.stdio == pb.Attach_STDIO_STDIN {
			go copyInput(stream, p.file, f.terminal != nil)
		} else {
			output := &output{file: p.file, terminal: f.terminal != nil, stream: stream, exited: r.process.Done()}
			outputs = append(outputs, output.start())
		}
	}
	if f.terminal != nil && f.stdout == nil {
		output := &output{file: f.terminal, terminal: true, stream: nowhere{}, exited: r.process.Done()}
		outputs = append(outputs, output.start())
	}
	return outputs, nil
}
