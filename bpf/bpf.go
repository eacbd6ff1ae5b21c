// Package bpf holds the packet program, compiled, and the Go types of its maps.
//
// filter.c is the program; its head says what it does with a packet. bans.h is
// the table of single bans, and Bans its writer: the layout is known here alone.
// filter_bpfel.go and filter_bpfel.o are made from it and committed, so that
// building weir needs no compiler for BPF. After a change of filter.c or of
// its headers run
//
//	go generate ./bpf
//
// with clang 19.1.7 and libbpf-dev (both of Debian 12 and 13 are that). The
// object comes out the same byte for byte whatever the directory and the
// machine; a test compares.
//
// The program needs Linux 6.1, and no BTF of the kernel it runs on: it reads
// packets and its own maps only. include/asm stands in for the headers that
// Linux keeps per architecture, so that clang finds them when it compiles for
// BPF.
//
// Unlike the rest of this repository filter.c is licensed GPL-2.0-only OR
// BSD-2-Clause (see LICENSE in this directory): the kernel lets only programs
// with a GPL-compatible licence call the helpers it uses.
package bpf

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel Filter filter.c -- -std=gnu11 -O2 -mcpu=v3 -Wall -Wextra -Werror -Wno-unused-parameter -Iinclude
