package xdp

import "slices"

// step is a moment in a swap of tables or an upgrade, right after something in
// the kernel was changed. Whoever is killed there leaves what the next process
// takes over, no ban missing: a test kills at each.
type step string

// The steps, in the order of an upgrade and then of swaps. The comments say who
// comes here.
const (
	stepTested      step = "program tested"      // load
	stepLoaded      step = "program loaded"      // load
	stepGeneration  step = "generation begun"    // its directory was made
	stepPinned      step = "pinned"              // any map, program or link
	stepProgram     step = "program pinned"      // the generation is whole
	stepLinkMoved   step = "link moved"          // from the directory of another layout
	stepUpdated     step = "link updated"        // the new program filters
	stepAttached    step = "link made"           // on an interface that had none; it dies with us until pinned
	stepDetached    step = "link detached"       // of an interface that is not ours any more
	stepOldOut      step = "old generations out" // their pins
	stepFormerOut   step = "other layouts out"   // their pins and links
	stepAdoptedHint step = "hint adopted"        // that of the table that we took over is ours
	stepSwept       step = "leftovers out"       // of a process that was killed here
	stepHintIn      step = "hint in"             // of a table of bans to come
	stepTableIn     step = "table in"            // it is in its place, and nobody looks at it yet
	stepTurned      step = "turned"              // packets look at the new tables
	stepTableOut    step = "table out"           // the old one out of its place
	stepHintOut     step = "hint out"            // its hint too
	stepUnpinned    step = "unpinned"            // an old table, or one that was left
	stepHalf        step = "half copied"         // some bans are in the table to come
	stepPrefixes    step = "prefixes changed"    // those of the new truth
	stepHalfRules   step = "rules written"       // into the half that is not in force
	stepRules       step = "rules turned"        // to that half
	stepWorldIn     step = "world in"            // in the slot that is not in force
	stepDenied      step = "places denied"       // those of the new world
	stepWorldTurned step = "world turned"        // packets look at the new world
	stepWorldOut    step = "world out"           // the old one
)

// steps are all of them.
var steps = []step{
	stepTested, stepLoaded, stepGeneration, stepPinned, stepProgram, stepLinkMoved, stepUpdated, stepAttached, stepDetached,
	stepOldOut, stepFormerOut, stepAdoptedHint, stepSwept, stepHintIn, stepTableIn, stepTurned, stepTableOut, stepHintOut,
	stepUnpinned, stepHalf, stepPrefixes, stepHalfRules, stepRules, stepWorldIn, stepDenied, stepWorldTurned, stepWorldOut,
}

// reached is told of each step; nil but in a process that a test will kill.
var reached func(step)

func reach(s step) {
	if reached == nil {
		return
	}
	if !slices.Contains(steps, s) {
		panic("step " + s + " is not in steps: no test kills there")
	}
	reached(s)
}
