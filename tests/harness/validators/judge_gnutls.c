/* Asks GnuTLS: gnutls_x509_trust_list_verify_crt2, and before it each CRL against the CAs of its case.
   One line for each case: empty, or the reason to refuse. */
#include "cases.h"

#include <gnutls/gnutls.h>
#include <gnutls/ocsp.h>
#include <gnutls/x509.h>
#include <time.h>

static time_t now;

static time_t clock_of_the_case(time_t *into) {
    if (into) *into = now;
    return now;
}

static gnutls_datum_t datum(struct blob blob) { return (gnutls_datum_t){blob.data, blob.size}; }

static const char *status_text(unsigned status) {
    gnutls_datum_t text;
    if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0)) return "refused";
    return (const char *)text.data;
}

/* "" when any of the CAs signed the CRL, and it is current. */
static const char *listed(gnutls_x509_crl_t crl, gnutls_x509_crt_t *cas, unsigned count) {
    unsigned status;
    int code = gnutls_x509_crl_verify(crl, cas, count, 0, &status);
    return code ? gnutls_strerror(code) : status ? status_text(status) : "";
}

static const char *crls(struct question *q, gnutls_x509_trust_list_t list, gnutls_x509_crt_t *cas, unsigned count) {
    for (unsigned i = 0; i < q->crlss; i++) {
        gnutls_datum_t der = datum(q->crls[i]);
        gnutls_x509_crl_t crl;
        gnutls_x509_crl_init(&crl);
        int code = gnutls_x509_crl_import(crl, &der, GNUTLS_X509_FMT_DER);
        if (code) return gnutls_strerror(code);
        const char *reason = listed(crl, cas, count);
        if (*reason) return reason;
        if (list && gnutls_x509_trust_list_add_crls(list, &crl, 1, 0, 0) != 1) return "a CRL was not taken";
    }
    return "";
}

static const char *answered(struct question *q, gnutls_x509_crt_t leaf, gnutls_x509_crt_t issuer) {
    gnutls_ocsp_resp_t answer;
    gnutls_datum_t der = datum(q->ocsp);
    unsigned failed;
    gnutls_ocsp_resp_init(&answer);
    int code = gnutls_ocsp_resp_import(answer, &der);
    if (!code && gnutls_ocsp_resp_get_status(answer) != GNUTLS_OCSP_RESP_SUCCESSFUL) return "the responder refused";
    if (!code) code = gnutls_ocsp_resp_verify_direct(answer, issuer, &failed, 0);
    if (code) return gnutls_strerror(code);
    if (failed) return "the answer is not signed by who may";
    for (unsigned i = 0;; i++) {
        unsigned status;
        time_t from, until;
        if (gnutls_ocsp_resp_get_single(answer, i, 0, 0, 0, 0, &status, &from, &until, 0, 0))
            return "the answer is about others";
        if (gnutls_ocsp_resp_check_crt(answer, i, leaf)) continue;
        if (now < from || (until != (time_t)-1 && now > until)) return "the answer is not current";
        return status == GNUTLS_OCSP_CERT_GOOD ? "" : "revoked, or unknown";
    }
}

static gnutls_x509_crt_t certificate(struct blob blob, const char **reason) {
    gnutls_x509_crt_t made;
    gnutls_datum_t der = datum(blob);
    gnutls_x509_crt_init(&made);
    int code = gnutls_x509_crt_import(made, &der, GNUTLS_X509_FMT_DER);
    if (code) *reason = gnutls_strerror(code);
    return made;
}

static const char *judge(struct question *q) {
    const char *reason = "";
    gnutls_x509_crt_t chain[MOST + 1], cas[2 * MOST];
    unsigned count = 0, links = 0, status;
    now = q->at;
    chain[links++] = certificate(q->leaf, &reason);
    for (unsigned i = 0; i < q->chains; i++) cas[count++] = chain[links++] = certificate(q->chain[i], &reason);
    gnutls_x509_crt_t *roots = cas + count;
    for (unsigned i = 0; i < q->rootss; i++) cas[count++] = certificate(q->roots[i], &reason);
    if (*reason) return reason;
    if (q->listing) return crls(q, 0, chain, 1);
    gnutls_x509_trust_list_t list;
    gnutls_x509_trust_list_init(&list, 0);
    if (gnutls_x509_trust_list_add_cas(list, roots, q->rootss, 0) != (int)q->rootss) return "a root was not taken";
    if (*(reason = crls(q, list, cas, count))) return reason;
    gnutls_typed_vdata_st wanted[2];
    unsigned wants = 0;
    if (*q->purpose)
        wanted[wants++] = (gnutls_typed_vdata_st){GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)q->purpose, 0};
    if (*q->host) wanted[wants++] = (gnutls_typed_vdata_st){GNUTLS_DT_DNS_HOSTNAME, (unsigned char *)q->host, 0};
    gnutls_x509_crt_t issuer = q->chains ? chain[1] : roots[0];
    int code = gnutls_x509_trust_list_verify_crt2(list, chain, links, wanted, wants, 0, &status, 0);
    if (code) return gnutls_strerror(code);
    if (status) return status_text(status);
    return q->ocsp.size ? answered(q, chain[0], issuer) : "";
}

int main(void) {
    static struct question q;
    if (gnutls_global_init()) die("GnuTLS does not start");
    gnutls_global_set_time_function(clock_of_the_case);
    while (next(&q)) puts(judge(&q));
    return 0;
}
