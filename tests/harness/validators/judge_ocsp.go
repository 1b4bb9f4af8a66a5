// OCSP answers, of which Go's standard library knows nothing: read here with its ASN.1 decoder, verified by its certificates.
package main

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"
)

type ocspResponse struct {
	Status asn1.Enumerated
	Bytes  struct {
		Type     asn1.ObjectIdentifier
		Response []byte
	} `asn1:"explicit,tag:0,optional"`
}

type basicResponse struct {
	TBS          responseData
	Algorithm    pkix.AlgorithmIdentifier
	Signature    asn1.BitString
	Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

type responseData struct {
	Raw        asn1.RawContent
	Version    int `asn1:"optional,default:0,explicit,tag:0"`
	Responder  asn1.RawValue
	ProducedAt time.Time `asn1:"generalized"`
	Responses  []singleResponse
	Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
}

type singleResponse struct {
	ID struct {
		Hash    pkix.AlgorithmIdentifier
		Name    []byte
		Key     []byte
		Serial  *big.Int
	}
	Good    asn1.Flag `asn1:"tag:0,optional"`
	Revoked struct {
		Time   time.Time       `asn1:"generalized"`
		Reason asn1.Enumerated `asn1:"explicit,tag:0,optional"`
	} `asn1:"tag:1,optional"`
	Unknown    asn1.Flag        `asn1:"tag:2,optional"`
	ThisUpdate time.Time        `asn1:"generalized"`
	NextUpdate time.Time        `asn1:"generalized,explicit,tag:0,optional"`
	Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
}

var (
	basicType = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	hashes    = map[string]func([]byte) []byte{
		"1.3.14.3.2.26":          func(data []byte) []byte { sum := sha1.Sum(data); return sum[:] },
		"2.16.840.1.101.3.4.2.1": func(data []byte) []byte { sum := sha256.Sum256(data); return sum[:] },
	}
	algorithms = map[string]x509.SignatureAlgorithm{
		"1.2.840.10045.4.3.2":    x509.ECDSAWithSHA256,
		"1.2.840.10045.4.3.3":    x509.ECDSAWithSHA384,
		"1.2.840.10045.4.3.4":    x509.ECDSAWithSHA512,
		"1.2.840.113549.1.1.11":  x509.SHA256WithRSA,
		"1.2.840.113549.1.1.12":  x509.SHA384WithRSA,
		"1.2.840.113549.1.1.13":  x509.SHA512WithRSA,
		"1.3.101.112":            x509.PureEd25519,
		"2.16.840.1.101.3.4.3.17": x509.MLDSA44,
		"2.16.840.1.101.3.4.3.18": x509.MLDSA65,
		"2.16.840.1.101.3.4.3.19": x509.MLDSA87,
	}
)

// answered says whether an answer by the issuer, or by a responder of its own, says that a certificate is good at a time.
func answered(der []byte, leaf, issuer *x509.Certificate, at time.Time) error {
	basic, err := parsed(der)
	if err != nil {
		return err
	}
	responder, err := responderOf(basic, issuer, at)
	if err != nil {
		return err
	}
	algorithm, known := algorithms[basic.Algorithm.Algorithm.String()]
	if !known {
		return fmt.Errorf("signed with %s", basic.Algorithm.Algorithm)
	}
	if err = responder.CheckSignature(algorithm, basic.TBS.Raw, basic.Signature.RightAlign()); err != nil {
		return err
	}
	for _, single := range basic.TBS.Responses {
		if single.about(leaf, issuer) {
			return single.good(at)
		}
	}
	return errors.New("the answer is about other certificates")
}

func parsed(der []byte) (*basicResponse, error) {
	var outer ocspResponse
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("not an OCSP response: %v, %d bytes after it", err, len(rest))
	}
	if outer.Status != 0 || !outer.Bytes.Type.Equal(basicType) {
		return nil, fmt.Errorf("the responder says %d", outer.Status)
	}
	var basic basicResponse
	if rest, err := asn1.Unmarshal(outer.Bytes.Response, &basic); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("not a basic response: %v, %d bytes after it", err, len(rest))
	}
	for _, extension := range basic.TBS.Extensions {
		if extension.Critical {
			return nil, fmt.Errorf("critical extension %s", extension.Id)
		}
	}
	return &basic, nil
}

// responderOf is the certificate that answers: the issuer's, or one that it gave the right (RFC 6960, 4.2.2.2).
func responderOf(basic *basicResponse, issuer *x509.Certificate, at time.Time) (*x509.Certificate, error) {
	for _, raw := range basic.Certificates {
		certificate, err := x509.ParseCertificate(raw.FullBytes)
		if err != nil {
			return nil, err
		}
		if !named(basic.TBS.Responder, certificate) || bytes.Equal(certificate.Raw, issuer.Raw) {
			continue
		}
		if err = certificate.CheckSignatureFrom(issuer); err != nil {
			return nil, err
		}
		if at.Before(certificate.NotBefore) || at.After(certificate.NotAfter) {
			return nil, errors.New("the responder's certificate is not current")
		}
		for _, usage := range certificate.ExtKeyUsage {
			if usage == x509.ExtKeyUsageOCSPSigning {
				return certificate, nil
			}
		}
		return nil, errors.New("the responder may not sign OCSP answers")
	}
	if !named(basic.TBS.Responder, issuer) {
		return nil, errors.New("nobody knows this responder")
	}
	return issuer, nil
}

// named says whether a ResponderID (by name, or by the SHA-1 of the key) is that of a certificate.
func named(responder asn1.RawValue, certificate *x509.Certificate) bool {
	if responder.Tag == 1 {
		return bytes.Equal(responder.Bytes, certificate.RawSubject)
	}
	var hash []byte
	if _, err := asn1.Unmarshal(responder.Bytes, &hash); err != nil {
		return false
	}
	return bytes.Equal(hash, hashes["1.3.14.3.2.26"](keyBits(certificate)))
}

func keyBits(certificate *x509.Certificate) []byte {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(certificate.RawSubjectPublicKeyInfo, &info); err != nil {
		return nil
	}
	return info.Key.RightAlign()
}

func (single *singleResponse) about(leaf, issuer *x509.Certificate) bool {
	hash, known := hashes[single.ID.Hash.Algorithm.String()]
	return known && single.ID.Serial.Cmp(leaf.SerialNumber) == 0 &&
		bytes.Equal(single.ID.Name, hash(issuer.RawSubject)) && bytes.Equal(single.ID.Key, hash(keyBits(issuer)))
}

func (single *singleResponse) good(at time.Time) error {
	if at.Before(single.ThisUpdate) || (!single.NextUpdate.IsZero() && at.After(single.NextUpdate)) {
		return errors.New("the answer is not current")
	}
	if !single.Revoked.Time.IsZero() {
		return fmt.Errorf("revoked, reason %d", single.Revoked.Reason)
	}
	if !bool(single.Good) {
		return errors.New("the status is unknown")
	}
	return nil
}
