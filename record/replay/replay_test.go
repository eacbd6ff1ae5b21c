package replay_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
)

// tuned are the seeds that were looked at when the rules were written; the
// others never were.
var tuned, untuned = []uint64{1, 2}, []uint64{7001, 7002, 7003}

// TestScenes holds every scene, as attacker and as innocent, against its truth.
func TestScenes(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(twins)) {
		for _, attacker := range []bool{true, false} {
			for _, seed := range append(slices.Clone(tuned), untuned...) {
				t.Run(fmt.Sprintf("%s/%v/%d", name, attacker, seed), func(t *testing.T) {
					s := newStage(seed)
					twins[name](s, attacker)
					says, _ := play(t, s.lines, s.truth, nil)
					hold(t, s.lines, s.truth, says)
				})
			}
		}
	}
}

// What was decided may be deleted from every line, and lines may come in any
// order: the answer is the same.
func TestFactsAlone(t *testing.T) {
	for name, build := range twins {
		for _, attacker := range []bool{true, false} {
			s := newStage(11)
			build(s, attacker)
			want, sum := play(t, s.lines, s.truth, nil)
			bare := slices.Clone(s.lines)
			for i := range bare {
				bare[i] = stripped(t, bare[i])
			}
			slices.Reverse(bare)
			got, gotSum := play(t, bare, s.truth, nil)
			if sum != gotSum || !reflect.DeepEqual(want, got) {
				t.Errorf("%s: %+v with what was decided, %+v without", name, sum, gotSum)
			}
		}
	}
}
