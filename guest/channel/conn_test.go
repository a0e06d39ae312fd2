// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// recorder remembers each write.
type recorder struct{ writes [][]byte }

func (r *recorder) Write(p []byte) (int, error) {
	r.writes = append(r.writes, slices.Clone(p))
	return len(p), nil
}

func (r *recorder) Read([]byte) (int, error) { panic("never read") }
func (r *recorder) Close() error             { return nil }

func (r *recorder) sizes() (sizes []int) {
	for _, write := range r.writes {
		sizes = append(sizes, len(write))
	}
	return sizes
}

func header(kind byte, length uint32) []byte {
	h := make([]byte, yamuxHeaderSize)
	h[1] = kind
	binary.BigEndian.PutUint32(h[8:], length)
	return h
}

func TestConnJoinsWrites(t *testing.T) {
	const windowUpdate = 1
	data := func(size int) [][]byte { return [][]byte{header(yamuxData, uint32(size)), make([]byte, size)} }
	update := [][]byte{header(windowUpdate, 1<<20)}
	for _, test := range []struct {
		name   string
		corked bool
		writes [][]byte
		want   []int
	}{
		{"a control frame at once", false, slices.Concat(update, update), []int{12, 12}},
		{"an empty data frame at once", false, [][]byte{header(yamuxData, 0)}, []int{12}},
		{"a header with its body", false, slices.Concat(data(100), data(12)), []int{112, 24}},
		{"a body that fills the write", false, data(BodySize), []int{joinSize}},
		{"a body one byte longer", false, data(BodySize + 1), []int{joinSize, 1}},
		{"a large body", false, data(1 << 20), []int{joinSize, 1<<20 - BodySize}},
		{"a corked burst", true, slices.Concat(update, data(20), update, data(30)), []int{12 + 32 + 12 + 42}},
		{"a corked flood", true, slices.Concat(data(BodySize), data(100)), []int{joinSize, 112}},
	} {
		raw := &recorder{}
		c := newConn(raw)
		if test.corked {
			c.Cork()
		}
		for _, write := range test.writes {
			if n, err := c.Write(write); n != len(write) || err != nil {
				t.Errorf("%s: wrote %d %v", test.name, n, err)
			}
		}
		if test.corked {
			c.Uncork()
		}
		if !slices.Equal(raw.sizes(), test.want) {
			t.Errorf("%s: got writes of %v, want %v", test.name, raw.sizes(), test.want)
		}
		if !bytes.Equal(bytes.Join(raw.writes, nil), bytes.Join(test.writes, nil)) {
			t.Errorf("%s: the bytes differ", test.name)
		}
	}
}

func TestConnKeepsEveryByteWhoeverCorks(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	raw := &recorder{}
	c := newConn(raw)
	var want []byte
	for range 2000 {
		size := random.IntN(200)
		if random.IntN(20) == 0 {
			size = random.IntN(3 * joinSize)
		}
		body := make([]byte, size)
		for i := range body {
			body[i] = byte(random.Uint32())
		}
		for _, write := range [][]byte{header(byte(random.IntN(2)), uint32(size)), body} {
			if len(write) == 0 || (len(write) == size && want[len(want)-yamuxHeaderSize+1] != yamuxData) {
				continue // a frame without a body
			}
			switch random.IntN(4) {
			case 0:
				c.Cork()
			case 1:
				c.Uncork()
			}
			want = append(want, write...)
			if _, err := c.Write(write); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.Uncork()
	if !bytes.Equal(bytes.Join(raw.writes, nil), want) {
		t.Error("the bytes differ")
	}
}
