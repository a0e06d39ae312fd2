// SPDX-License-Identifier: Apache-2.0

// Command yamuxpeer is the other end for tests of another yamux implementation: hashicorp/yamux on an
// inherited socket. It serves each stream by the stream's first byte.
//
//	yamuxpeer server|client FD
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"log"
	"net"
	"os"
	"strconv"

	"github.com/hashicorp/yamux"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: yamuxpeer server|client FD")
	}
	fd, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "peer")
	conn, err := net.FileConn(file)
	if err != nil {
		log.Fatal(err)
	}
	file.Close()

	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false
	config.MaxStreamWindowSize = 1 << 20
	start := yamux.Server
	if os.Args[1] == "client" {
		start = yamux.Client
	}
	session, err := start(conn, config)
	if err != nil {
		log.Fatal(err)
	}
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return // the session is over
		}
		go serve(session, stream)
	}
}

func serve(session *yamux.Session, stream *yamux.Stream) {
	defer stream.Close()
	var kind [1]byte
	if _, err := io.ReadFull(stream, kind[:]); err != nil {
		return
	}
	switch kind[0] {
	case 'e': // echo to the end
		_, _ = io.Copy(stream, stream)
	case 'h': // answer with the hash of everything sent
		hash := sha256.New()
		_, _ = io.Copy(hash, stream)
		_, _ = stream.Write(hash.Sum(nil))
	case 'd': // discard, and answer with one byte at the end
		_, _ = io.Copy(io.Discard, stream)
		_, _ = stream.Write([]byte{0})
	case 'z': // send zeros for as long as they are taken
		zeros := make([]byte, 64<<10)
		for {
			if _, err := stream.Write(zeros); err != nil {
				return
			}
		}
	case 's': // send as many bytes as asked for, each the low byte of its offset
		var size uint64
		if err := binary.Read(stream, binary.BigEndian, &size); err != nil {
			return
		}
		_, _ = io.Copy(stream, &counter{left: size})
	case 'o': // open a stream and pass everything on to it
		other, err := session.OpenStream()
		if err != nil {
			return
		}
		defer other.Close()
		_, _ = io.Copy(other, stream)
	case 'p': // ping, and say that the answer came
		if _, err := session.Ping(); err == nil {
			_, _ = stream.Write([]byte("pong"))
		}
	case 'q': // go away, and end when the host has ended everything
		_ = session.GoAway()
		_, _ = stream.Write([]byte("gone"))
	case 'i': // read nothing, ever
		select {}
	}
}

// counter reads as the low bytes of its offsets.
type counter struct{ at, left uint64 }

func (c *counter) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n := min(uint64(len(p)), c.left)
	for i := range p[:n] {
		p[i] = byte(c.at + uint64(i))
	}
	c.at += n
	c.left -= n
	return int(n), nil
}
