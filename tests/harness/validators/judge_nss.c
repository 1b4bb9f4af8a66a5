/* Asks NSS: CERT_PKIXVerifyCert, and the functions that it uses for CRLs and OCSP answers that it fetched.
   One line for each case: empty, or the name of the error. */
#include "cases.h"

#include <cert.h>
#include <certdb.h>
#include <nss.h>
#include <ocsp.h>
#include <prerror.h>
#include <secerr.h>
#include <sys/wait.h>
#include <unistd.h>

/* Parts of the library judge by the clock alone: its clock is that of the case. */
static PRTime now;

PRTime PR_Now(void) { return now; }

static SECItem item(struct blob blob) { return (SECItem){siBuffer, blob.data, blob.size}; }

static CERTCertificate *certificate(struct blob blob) {
    SECItem der = item(blob);
    return CERT_NewTempCertificate(CERT_GetDefaultCertDB(), &der, NULL, PR_FALSE, PR_TRUE);
}

static SECStatus listed(CERTCertificate *issuer, struct blob blob) {
    SECItem der = item(blob);
    CERTSignedCrl *crl = CERT_DecodeDERCrl(NULL, &der, SEC_CRL_TYPE);
    if (!crl || CERT_VerifySignedData(&crl->signatureWrap, issuer, now, NULL)) return SECFailure;
    if (CERT_CompareName(&crl->crl.name, &issuer->subject) != SECEqual) {
        PORT_SetError(SEC_ERROR_UNKNOWN_ISSUER);
        return SECFailure;
    }
    if (SEC_CheckCrlTimes(&crl->crl, now) != secCertTimeValid) {
        PORT_SetError(SEC_ERROR_CRL_EXPIRED);
        return SECFailure;
    }
    return SECSuccess;
}

static SECStatus answered(struct question *q, CERTCertificate *leaf, CERTCertificate *issuer) {
    CERTCertDBHandle *handle = CERT_GetDefaultCertDB();
    SECItem der = item(q->ocsp);
    CERTCertificate *signer = NULL;
    CERTOCSPResponse *answer = CERT_DecodeOCSPResponse(&der);
    CERTOCSPCertID *about = CERT_CreateOCSPCertID(leaf, now);
    if (!answer || !about || CERT_GetOCSPResponseStatus(answer)) return SECFailure;
    /* A responder's certificate is verified from the issuer on, which the caller has verified. */
    CERTCertTrust trust = {CERTDB_TRUSTED_CA | CERTDB_VALID_CA, 0, 0};
    if (CERT_ChangeCertTrust(handle, issuer, &trust)) return SECFailure;
    if (CERT_VerifyOCSPResponseSignature(answer, handle, NULL, &signer, issuer)) return SECFailure;
    return CERT_GetOCSPStatusForCertID(handle, answer, about, signer, now);
}

static SECCertificateUsage usage(const char *purpose) {
    static const struct {
        const char *name;
        SECCertificateUsage usage;
    } known[] = {
        {"1.3.6.1.5.5.7.3.1", certificateUsageSSLServer},      {"1.3.6.1.5.5.7.3.2", certificateUsageSSLClient},
        {"1.3.6.1.5.5.7.3.3", certificateUsageObjectSigner},   {"1.3.6.1.5.5.7.3.4", certificateUsageEmailSigner},
        {"1.3.6.1.5.5.7.3.9", certificateUsageStatusResponder}, {"ca", certificateUsageSSLCA},
        {"", certificateUsageSSLClient},
    };
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(purpose, known[i].name)) return known[i].usage;
    die("unknown purpose");
    return 0;
}

static SECStatus verified(struct question *q, CERTCertificate *leaf, CERTCertList *anchors) {
    static PRUint64 method[2] = {CERT_REV_M_TEST_USING_THIS_METHOD | CERT_REV_M_FORBID_NETWORK_FETCHING |
                                     CERT_REV_M_REQUIRE_INFO_ON_MISSING_SOURCE | CERT_REV_M_FAIL_ON_MISSING_FRESH_INFO,
                                 CERT_REV_M_DO_NOT_TEST_USING_THIS_METHOD};
    static PRUint64 none[2];
    CERTRevocationTests tested = {2, method, 0, NULL, CERT_REV_MI_REQUIRE_SOME_FRESH_INFO_AVAILABLE};
    CERTRevocationTests untested = {2, none, 0, NULL, 0};
    CERTRevocationFlags flags = {q->crlss ? tested : untested, q->crlss && !q->leaf_only ? tested : untested};
    CERTValInParam in[] = {
        {.type = cert_pi_date, .value.scalar.time = now},
        {.type = cert_pi_revocationFlags, .value.pointer.revocation = &flags},
        {.type = cert_pi_trustAnchors, .value.pointer.chain = anchors},
        {.type = cert_pi_useOnlyTrustAnchors, .value.scalar.b = PR_TRUE},
        {.type = cert_pi_end},
    };
    return CERT_PKIXVerifyCert(leaf, usage(q->purpose), in, NULL, NULL);
}

static SECStatus judge(struct question *q) {
    CERTCertDBHandle *handle = CERT_GetDefaultCertDB();
    now = q->at * PR_USEC_PER_SEC;
    CERTCertificate *leaf = certificate(q->leaf), *issuer = NULL;
    if (!leaf) return SECFailure;
    for (unsigned i = 0; i < q->chains; i++) {
        CERTCertificate *link = certificate(q->chain[i]);
        if (!link) return SECFailure;
        issuer = issuer ? issuer : link;
    }
    CERTCertList *anchors = CERT_NewCertList();
    for (unsigned i = 0; i < q->rootss; i++) {
        CERTCertificate *root = certificate(q->roots[i]);
        if (!root) return SECFailure;
        CERT_AddCertToListTail(anchors, root);
        issuer = issuer ? issuer : root;
    }
    SECItem crls[MOST];
    for (unsigned i = 0; i < q->crlss; i++) {
        if (q->listing && listed(leaf, q->crls[i])) return SECFailure;
        crls[i] = item(q->crls[i]);
        if (!q->listing && CERT_CacheCRL(handle, &crls[i])) return SECFailure;
    }
    if (q->listing) return SECSuccess;
    if (verified(q, leaf, anchors)) return SECFailure;
    return q->ocsp.size ? answered(q, leaf, issuer) : SECSuccess;
}

static void answer(struct question *q) {
    PORT_SetError(0);
    const char *reason = "";
    if (judge(q)) {
        reason = PR_ErrorToName(PR_GetError());
        if (!reason) reason = "refused";
    }
    puts(reason);
    fflush(stdout);
}

/* Each case in a process of its own: the library remembers certificates and chains, and nothing that one case brought
   along may help the next one. */
int main(void) {
    static struct question q;
    while (next(&q)) {
        int status;
        pid_t child = fork();
        if (child < 0) die("no process");
        if (!child) {
            if (NSS_NoDB_Init(NULL)) die("NSS does not start");
            answer(&q);
            _exit(0);
        }
        if (waitpid(child, &status, 0) != child || status) die("the library crashed");
    }
    return 0;
}
