// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"microvm.internal/guest/channel"
	"microvm.internal/guest/crash"
)

// longAgo as a deadline ends a blocked read at once.
var longAgo = time.Unix(1, 0)

// output carries what a process writes to a stream of the host.
type output struct {
	file     *os.File // read end of a pipe, or the terminal's master
	terminal bool
	stream   io.WriteCloser
	exited   <-chan struct{} // closed when the process has ended
	done     chan struct{}
}

// lastWords is how long the end of an output waits for the end of the process, to be told with it.
const lastWords = 2 * time.Millisecond

func (o *output) start() *output {
	o.done = make(chan struct{})
	go o.run()
	return o
}

func (o *output) run() {
	defer crash.Guard()
	defer close(o.done)
	buffer := make([]byte, channel.BodySize)
	for {
		n, err := o.file.Read(buffer)
		if n > 0 {
			if _, err := o.stream.Write(buffer[:n]); err != nil {
				// The host wants no more: from now on the writer gets EPIPE.
				o.file.Close()
				return
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			o.drain(buffer)
			return
		}
		if err != nil {
			// io.EOF, or EIO: nobody has the terminal open any more. A process may do well without its output.
			select {
			case <-o.exited:
			case <-time.After(lastWords):
				o.stream.Close()
			}
			return
		}
	}
}

// finish ends the copying once the process has exited, but not the stream. It delivers what the process wrote, and
// not what others who have the file open may still write.
func (o *output) finish() {
	if o.file.SetReadDeadline(longAgo) != nil {
		return // closed already
	}
	<-o.done
}

// drain copies what is in the file now, without waiting for more.
func (o *output) drain(buffer []byte) {
	raw, err := o.file.SyscallConn()
	if err != nil {
		return // closed
	}
	left := -1
	for left != 0 {
		var n int
		controlErr := raw.Control(func(fd uintptr) {
			if left < 0 {
				left = o.pending(int(fd))
			}
			n, err = ignoringEINTR(func() (int, error) { return unix.Read(int(fd), buffer[:min(left, len(buffer))]) })
		})
		if controlErr != nil || err != nil || n <= 0 {
			return
		}
		if _, err := o.stream.Write(buffer[:n]); err != nil {
			return
		}
		left -= n
	}
}

// pending bounds a drain. A terminal passes its output on in the background, so what can be read now may be less
// than what was written: its bound is more than the kernel buffers for a terminal.
func (o *output) pending(fd int) int {
	const terminalBuffer = 64 << 10
	if o.terminal {
		return terminalBuffer
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return terminalBuffer
	}
	return n
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// copyInput carries a stream of the host to a process until either ends. A process that closes its input is no
// error: the rest is discarded, and the guest's side of the stream is closed to say so.
func copyInput(stream io.ReadWriteCloser, file *os.File, tty bool) {
	defer crash.Guard()
	_, err := io.CopyBuffer(onlyWriter{file}, onlyReader{stream}, make([]byte, channel.BodySize))
	if err == nil && tty {
		sendEOF(file)
	}
	if !tty {
		file.Close()
	}
	stream.Close()
	if err != nil {
		_, _ = io.Copy(io.Discard, stream) // ends with the host's side or the channel
	}
}

// nowhere is the stream of an output the host did not ask for.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) Close() error                { return nil }

// io.CopyBuffer must not find the ReadFrom and WriteTo that would bypass its buffer.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// sendEOF types the end-of-file character if the terminal would understand it.
func sendEOF(master *os.File) {
	raw, err := master.SyscallConn()
	if err != nil {
		return // closed
	}
	eof := -1
	_ = raw.Control(func(fd uintptr) {
		if termios, err := unix.IoctlGetTermios(int(fd), unix.TCGETS); err == nil && termios.Lflag&unix.ICANON != 0 {
			eof = int(termios.Cc[unix.VEOF])
		}
	})
	if eof >= 0 {
		_, _ = master.Write([]byte{byte(eof)}) // fails if the process has ended
	}
}
