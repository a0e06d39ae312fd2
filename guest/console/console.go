// SPDX-License-Identifier: Apache-2.0

// Package console writes log records to the console, one line each: "agent: message key=value".
package console

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
)

// Handler is a slog.Handler without reflection or allocation to speak of. Groups are not kept apart.
type Handler struct {
	mu    *sync.Mutex
	out   io.Writer
	level slog.Level
	attrs string
}

// NewHandler returns a Handler that passes on records of at least the given level.
func NewHandler(out io.Writer, level slog.Level) *Handler {
	return &Handler{mu: new(sync.Mutex), out: out, level: level}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// Handle implements slog.Handler.
func (h *Handler) Handle(_ context.Context, record slog.Record) error {
	line := make([]byte, 0, 128)
	line = append(line, "agent: "...)
	if record.Level >= slog.LevelWarn {
		line = append(line, strings.ToLower(record.Level.String())...)
		line = append(line, ": "...)
	}
	line = append(line, oneLine(record.Message)...)
	line = append(line, h.attrs...)
	record.Attrs(func(attr slog.Attr) bool {
		line = appendAttr(line, attr)
		return true
	})
	line = append(line, '\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.out.Write(line)
	return err
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	text := []byte(h.attrs)
	for _, attr := range attrs {
		text = appendAttr(text, attr)
	}
	return &Handler{mu: h.mu, out: h.out, level: h.level, attrs: string(text)}
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(string) slog.Handler { return h }

func appendAttr(line []byte, attr slog.Attr) []byte {
	line = append(line, ' ')
	line = append(line, attr.Key...)
	line = append(line, '=')
	value := attr.Value.Resolve().String()
	if value == "" || strings.ContainsAny(value, " \"=\n\r\t") {
		return strconv.AppendQuote(line, value)
	}
	return append(line, value...)
}

// oneLine keeps a message from breaking its line.
func oneLine(message string) string {
	if !strings.ContainsAny(message, "\n\r") {
		return message
	}
	return strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(message)
}
