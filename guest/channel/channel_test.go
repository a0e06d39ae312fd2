// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	pb "microvm.internal/guest/gen/microvmv1"
)

func TestFramesRoundTrip(t *testing.T) {
	var wire bytes.Buffer
	for _, version := range []string{"", "1.2.3"} {
		if err := WriteFrame(&wire, &pb.Hello{Protocol: 1, Version: version}); err != nil {
			t.Fatal(err)
		}
	}
	for _, version := range []string{"", "1.2.3"} {
		var hello pb.Hello
		if err := ReadFrame(&wire, MaxControl, &hello); err != nil || hello.Protocol != 1 || hello.Version != version {
			t.Errorf("got %d %q %v", hello.Protocol, hello.Version, err)
		}
	}
	if err := ReadFrame(&wire, MaxControl, &pb.Hello{}); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestReadFrameRefuses(t *testing.T) {
	frame := func(size uint32, body ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, size), body...)
	}
	for _, test := range []struct {
		name string
		wire []byte
		want error
	}{
		{"nothing", nil, io.EOF},
		{"half a header", []byte{0, 0}, io.ErrUnexpectedEOF},
		{"no body", frame(5), io.ErrUnexpectedEOF},
		{"half a body", frame(5, 1, 2), io.ErrUnexpectedEOF},
		{"one byte too many", frame(101), ErrFrameTooLarge},
		{"4 GiB", frame(0xffffffff), ErrFrameTooLarge},
		{"garbage", frame(2, 0xff, 0xff), io.ErrUnexpectedEOF},
	} {
		if err := ReadFrame(bytes.NewReader(test.wire), 100, &pb.Hello{}); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
}

// The host's own limit, of what it sends and of what it takes (src/agent/frames.ts).
func TestRequestsAreLimitedAsByTheHost(t *testing.T) {
	for size, want := range map[uint32]error{4 << 20: io.ErrUnexpectedEOF, 4<<20 + 1: ErrFrameTooLarge} {
		wire := binary.BigEndian.AppendUint32(nil, size)
		if err := ReadFrame(bytes.NewReader(wire), MaxRequest, &pb.Request{}); !errors.Is(err, want) {
			t.Errorf("%d bytes: got %v, want %v", size, err, want)
		}
	}
}

func FuzzRequest(f *testing.F) {
	seed, err := (&pb.Request{Call: &pb.Request_Exec{Exec: &pb.Exec{Args: []string{"sh"}, Tty: &pb.Tty{Rows: 1}}}}).MarshalVT()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, body []byte) {
		wire := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
		var request pb.Request
		if ReadFrame(bytes.NewReader(wire), MaxRequest, &request) != nil {
			return
		}
		var again bytes.Buffer
		if err := WriteFrame(&again, &request); err != nil {
			t.Error(err)
		}
	})
}

// pipe joins two byte streams.
type pipe struct {
	io.Reader
	io.Writer
}

func (pipe) Close() error { return nil }

func TestOpenRefusesAnotherProtocol(t *testing.T) {
	var wire, sent bytes.Buffer
	if err := WriteFrame(&wire, &pb.Hello{Protocol: 2, Version: "9.9"}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(pipe{&wire, &sent}, "1.0"); !errors.Is(err, ErrProtocol) {
		t.Errorf("got %v", err)
	}
	var hello pb.Hello
	if err := ReadFrame(&sent, MaxControl, &hello); err != nil || hello.Protocol != Protocol || hello.Version != "1.0" {
		t.Errorf("sent %d %q %v", hello.Protocol, hello.Version, err)
	}
}

func TestFindPort(t *testing.T) {
	class := t.TempDir()
	for port, name := range map[string]string{"vport0p0": "", "vport0p1": "agent\n", "vport1p0": "agent2\n"} {
		if err := os.Mkdir(filepath.Join(class, port), 0o700); err != nil {
			t.Fatal(err)
		}
		if name == "" {
			continue // not announced yet
		}
		if err := os.WriteFile(filepath.Join(class, port, "name"), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if node, err := findPort(class, "agent"); err != nil || node != "/dev/vport0p1" {
		t.Errorf("got %q %v", node, err)
	}
	for _, missing := range []string{class, filepath.Join(class, "none")} {
		if _, err := findPort(missing, "other"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	}
}
