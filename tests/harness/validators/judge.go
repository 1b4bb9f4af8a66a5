// Asks Go's standard library about certificates: cases come in as JSON, answers go out as JSON.
package main

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

type question struct {
	Name    string
	Leaf    []byte
	Chain   [][]byte
	Roots   [][]byte
	Crls    [][]byte
	Ocsp    []byte
	Host    string
	At      int64
	Purpose string
	// The CRLs need to know the leaf alone.
	LeafOnly int `json:"leaf_only"`
	// Whether the CRL is by the leaf, and current, is the whole question.
	Listing int
}

var usages = map[string]x509.ExtKeyUsage{
	"":                  x509.ExtKeyUsageAny,
	"1.3.6.1.5.5.7.3.1": x509.ExtKeyUsageServerAuth,
	"1.3.6.1.5.5.7.3.2": x509.ExtKeyUsageClientAuth,
	"1.3.6.1.5.5.7.3.3": x509.ExtKeyUsageCodeSigning,
	"1.3.6.1.5.5.7.3.4": x509.ExtKeyUsageEmailProtection,
	"1.3.6.1.5.5.7.3.9": x509.ExtKeyUsageOCSPSigning,
}

func pool(ders [][]byte) (*x509.CertPool, error) {
	found := x509.NewCertPool()
	for _, der := range ders {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		found.AddCert(certificate)
	}
	return found, nil
}

// judge verifies a chain as crypto/tls does, and then, which the library leaves to its user, looks into the CRLs.
func judge(q question) error {
	leaf, err := x509.ParseCertificate(q.Leaf)
	if err != nil {
		return err
	}
	if q.Listing != 0 {
		return listed(leaf, q.Crls, time.Unix(q.At, 0))
	}
	roots, err := pool(q.Roots)
	if err != nil {
		return err
	}
	between, err := pool(q.Chain)
	if err != nil {
		return err
	}
	at := time.Unix(q.At, 0)
	chains, err := leaf.Verify(x509.VerifyOptions{
		DNSName:       q.Host,
		Roots:         roots,
		Intermediates: between,
		CurrentTime:   at,
		KeyUsages:     []x509.ExtKeyUsage{usages[q.Purpose]},
	})
	if err != nil || len(q.Crls)+len(q.Ocsp) == 0 {
		return err
	}
	for _, chain := range chains {
		if len(q.Ocsp) > 0 {
			err = answered(q.Ocsp, leaf, chain[1], at)
		} else {
			err = statuses(chain, q, at)
		}
		if err == nil {
			return nil
		}
	}
	return err
}

// listed says whether CRLs are by an issuer, and current.
func listed(issuer *x509.Certificate, crls [][]byte, at time.Time) error {
	for _, der := range crls {
		crl, err := x509.ParseRevocationList(der)
		if err != nil {
			return err
		}
		if err = crl.CheckSignatureFrom(issuer); err != nil {
			return err
		}
		if at.Before(crl.ThisUpdate) || at.After(crl.NextUpdate) {
			return errors.New("the CRL is not current")
		}
	}
	return nil
}

func statuses(chain []*x509.Certificate, q question, at time.Time) error {
	for i, certificate := range chain[:len(chain)-1] {
		if err := status(certificate, chain[i+1], q.Crls, at); err != nil {
			return err
		}
		if q.LeafOnly != 0 {
			break
		}
	}
	return nil
}

var (
	deltaIndicator = asn1.ObjectIdentifier{2, 5, 29, 27}
	issuingPoint   = asn1.ObjectIdentifier{2, 5, 29, 28}
)

// status wants one whole, current CRL of the issuer that covers the certificate; any of them may revoke it.
func status(certificate, issuer *x509.Certificate, crls [][]byte, at time.Time) error {
	known := false
	for _, der := range crls {
		crl, err := x509.ParseRevocationList(der)
		if err != nil {
			return err
		}
		if !bytes.Equal(crl.RawIssuer, certificate.RawIssuer) || !bytes.Equal(crl.AuthorityKeyId, issuer.SubjectKeyId) {
			continue
		}
		if err = crl.CheckSignatureFrom(issuer); err != nil {
			return err
		}
		if at.Before(crl.ThisUpdate) || at.After(crl.NextUpdate) {
			return errors.New("the CRL is not current")
		}
		for _, entry := range crl.RevokedCertificateEntries {
			if entry.SerialNumber.Cmp(certificate.SerialNumber) == 0 {
				return fmt.Errorf("revoked, reason %d", entry.ReasonCode)
			}
		}
		known = known || whole(crl, certificate)
	}
	if !known {
		return errors.New("no CRL knows the status")
	}
	return nil
}

// whole says whether a CRL that does not list a certificate says that it is good.
func whole(crl *x509.RevocationList, certificate *x509.Certificate) bool {
	for _, extension := range crl.Extensions {
		if extension.Id.Equal(deltaIndicator) {
			return false
		}
		if extension.Id.Equal(issuingPoint) {
			for _, url := range certificate.CRLDistributionPoints {
				if bytes.Contains(extension.Value, []byte(url)) {
					return true
				}
			}
			return false
		}
	}
	return true
}

func main() {
	var questions []question
	if err := json.NewDecoder(os.Stdin).Decode(&questions); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	answers := map[string]string{}
	for _, q := range questions {
		answers[q.Name] = ""
		if err := judge(q); err != nil {
			answers[q.Name] = err.Error()
		}
	}
	json.NewEncoder(os.Stdout).Encode(answers)
}
