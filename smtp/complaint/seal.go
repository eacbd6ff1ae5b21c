package complaint

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"

	"mailweir/ref"
)

// Key seals the refs of messages. A ref alone proves nothing: the sender reads
// it in our 250. The seal stands in our Received field only, so that who knows
// it has the message as it was delivered.
type Key [32]byte

// sealSize is 80 bits: nobody guesses one that he cannot try offline.
const sealSize = 10

// Seal returns the seal of r: sixteen letters and digits.
func (k Key) Seal(r ref.Ref) string {
	mac := hmac.New(sha256.New, k[:])
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(r)))
	return base32.StdEncoding.EncodeToString(mac.Sum(nil)[:sealSize])
}

// Sealed says whether seal is that of r, in a time that tells nothing of how
// much of it is right.
func (k Key) Sealed(r ref.Ref, seal string) bool {
	return hmac.Equal([]byte(k.Seal(r)), []byte(seal))
}
