package harvest

import "testing"

// What a domain was used to counts nothing after weeks of silence.
func TestAverageFadesInSilence(t *testing.T) {
	d := &domain{name: "example.com", average: 100}
	d.minute.Begun = 1
	d.turn(1 + 20*aDay)
	if d.average > 0.1 {
		t.Errorf("the average is still %.1f a minute", d.average)
	}
}
