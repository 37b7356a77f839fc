//go:build tools

// Package tools names the program whose dependencies go.mod and go.sum pin.
package tools

import _ "github.com/jaegertracing/jaeger/cmd/all-in-one"
