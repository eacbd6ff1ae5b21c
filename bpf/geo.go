package bpf

import "structs"

// GeoWorld is struct geo_world of geo.h: where every address is.
type GeoWorld struct {
	_         structs.HostLayout
	V4        [1 << 24]uint8
	Wide4     [1 << 16]uint8
	Kinds     [256]uint32
	Index4    [1<<16 + 2]uint32
	Split4    [1 << 18]GeoRun4
	Index6    [1<<20 + 2]uint32
	Start6    [1 << 20]uint64
	Kind6     [1 << 20]uint32
	Deep6     [1 << 16]GeoDeep6
	Count6    uint32
	CountDeep uint32
}

// GeoRun4 is struct geo_run4.
type GeoRun4 struct {
	_     structs.HostLayout
	Start uint32
	Kind  uint32
}

// GeoDeep6 is struct geo_deep6.
type GeoDeep6 struct {
	_      structs.HostLayout
	Hi, Lo uint64
	Kind   uint64
}

// GeoMixed stands in Wide4 for a /16 whose /24s differ: they are looked up in V4.
const GeoMixed = 254

// The rows of the maps class_action and class_count: the classes of countries,
// and behind them a half for the networks of each slot.
const (
	GeoClasses  = 2048
	GeoNetworks = 1024
)
