// Update of an ET layer on CPUs from its messages: forward, backward and the derivative of the
// backward in one pass over the atoms. The equations are `reference_update` of update.py.
//
// Legend: N atoms, F channels. o (N, 3F) and p (N, 3, 3F) hold three channels side by side.

#include "numbers.h"

namespace {

// What the caller passes; native.py has the same fields in the same order.
struct Arguments {
    Index atoms, channels, threads;
    Index kind;    // 0 forward, 1 backward, 2 derivative of the backward
    Index type;    // 0 float, 1 double
    const void *o, *p, *o_t, *p_t, *grad_dx, *grad_dvec;
    void *dx, *dvec, *grad_o, *grad_p;
};

template <class M, bool forwards, bool backwards> void atom(const Arguments& a, Index i) {
    using T = typename M::Number;
    using S = typename M::Scalar;
    const Index F = a.channels;
    const auto o1 = M::array(a.o, a.o_t).at(i * 3 * F), o2 = o1.at(F), o3 = o2.at(F);
    const Sum<S> dx{static_cast<S*>(a.dx) + i * F}, grad_o{static_cast<S*>(a.grad_o) + i * 3 * F};
    const S* gx = static_cast<const S*>(a.grad_dx) + i * F;
    const auto p = M::array(a.p, a.p_t).at(i * 9 * F), px = p, py = p.at(3 * F), pz = p.at(6 * F);
#pragma GCC ivdep
    for (Index f = 0; f < F; ++f) {
        const T dot = px[f] * px[F + f] + py[f] * py[F + f] + pz[f] * pz[F + f];
        if constexpr (forwards) dx.set(f, dot * o2[f] + o3[f]);
        if constexpr (backwards) {
            grad_o.set(F + f, gx[f] * dot);
            grad_o.set(2 * F + f, T(gx[f]));
            grad_o.set(f, T(S(0)));
        }
    }
    for (Index c = 0; c < 3; ++c) {
        const auto p1 = p.at(c * 3 * F), p2 = p1.at(F), p3 = p2.at(F);
        const Sum<S> dvec{static_cast<S*>(a.dvec) + (3 * i + c) * F};
        const Sum<S> grad_p{static_cast<S*>(a.grad_p) + (3 * i + c) * 3 * F};
        const S* gv = static_cast<const S*>(a.grad_dvec) + (3 * i + c) * F;
#pragma GCC ivdep
        for (Index f = 0; f < F; ++f) {
            if constexpr (forwards) dvec.set(f, p3[f] * o1[f]);
            if constexpr (backwards) {
                const T pushed = gx[f] * o2[f];
                grad_o.add(f, gv[f] * p3[f]);
                grad_p.set(f, pushed * p2[f]);
                grad_p.set(F + f, pushed * p1[f]);
                grad_p.set(2 * F + f, gv[f] * o1[f]);
            }
        }
    }
}

template <class M, bool forwards, bool backwards> void all(const Arguments& a) {
#pragma omp parallel for num_threads(a.threads)
    for (Index i = 0; i < a.atoms; ++i) atom<M, forwards, backwards>(a, i);
}

template <class S> void of_kind(const Arguments& a) {
    if (a.kind == 0) all<Plain<S>, true, false>(a);
    if (a.kind == 1) all<Plain<S>, false, true>(a);
    if (a.kind == 2) all<Derived<S>, true, true>(a);
}

}  // namespace

// Returns 0, or 1 for an unknown type.
extern "C" int layer_update(const Arguments* a) {
    if (a->type == 0) return of_kind<float>(*a), 0;
    if (a->type == 1) return of_kind<double>(*a), 0;
    return 1;
}
