// Whitening of atoms' vectors on CPUs: forward, backward and the derivative of the backward, an atom at a
// time, in float64. The equations are `WhitenedVectorNorm.reference` of models/norms.py.
//
// With C the centred vectors of an atom, A = C Cᵀ/F + ε = P² and M = P⁻¹, its output is M C, weighted. Derivatives
// are those of implicit functions: P' P + P P' = A', M' = -M P' M. The equation X P + P X = B is solved in the
// eigenvectors of P, where it divides by sums of eigenvalues, never by differences; the eigenvectors themselves are
// not differentiated.
//
// Legend: N atoms, F channels. vec (N, 3, F), weight (F,).

#include "numbers.h"

namespace {

// What the caller passes; native.py has the same fields in the same order.
struct Arguments {
    Index atoms, channels, threads;
    Index kind;     // 0 forward, 1 backward, 2 derivative of the backward
    Index type;     // 0 float, 1 double
    Index parts;    // of the atoms, one thread each
    const double* eps;
    const void *vec, *weight, *vec_t, *weight_t;    // weight_t is null where nothing moves
    const void* grad_y;
    void *y, *grad_vec;
    void* grad_weight;    // of each part, (parts, F), its sum in the first; null where it is not wanted
};

// ---- 3 x 3 matrices -----------------------------------------------------------------------------

struct Matrix {
    double m[3][3] = {};
    double* operator[](Index i) { return m[i]; }
    const double* operator[](Index i) const { return m[i]; }
};

template <class Function> Matrix each(Function of) {
    Matrix to;
    for (Index i = 0; i < 3; ++i)
        for (Index j = 0; j < 3; ++j) to[i][j] = of(i, j);
    return to;
}
Matrix operator+(const Matrix& a, const Matrix& b) { return each([&](Index i, Index j) { return a[i][j] + b[i][j]; }); }
Matrix operator-(const Matrix& a, const Matrix& b) { return each([&](Index i, Index j) { return a[i][j] - b[i][j]; }); }
Matrix operator*(double s, const Matrix& a) { return each([&](Index i, Index j) { return s * a[i][j]; }); }
Matrix operator*(const Matrix& a, const Matrix& b) {
    return each([&](Index i, Index j) { return a[i][0] * b[0][j] + a[i][1] * b[1][j] + a[i][2] * b[2][j]; });
}
Matrix transposed(const Matrix& a) { return each([&](Index i, Index j) { return a[j][i]; }); }
Matrix symmetric(const Matrix& a) { return each([&](Index i, Index j) { return 0.5 * (a[i][j] + a[j][i]); }); }

// Lower triangular factor of a positive matrix.
Matrix cholesky(const Matrix& a) {
    Matrix l;
    for (Index j = 0; j < 3; ++j)
        for (Index i = j; i < 3; ++i) {
            double rest = a[i][j];
            for (Index k = 0; k < j; ++k) rest -= l[i][k] * l[j][k];
            l[i][j] = i > j ? rest / l[j][j] : std::sqrt(rest > 1e-300 ? rest : 1e-300);
        }
    return l;
}

Matrix inverse_of_lower(const Matrix& l) {
    Matrix to;
    for (Index j = 0; j < 3; ++j)
        for (Index i = j; i < 3; ++i) {
            double rest = i == j;
            for (Index k = j; k < i; ++k) rest -= l[i][k] * to[k][j];
            to[i][j] = rest / l[i][i];
        }
    return to;
}

// Rotates two rows into orthogonal ones; whether they were not.
bool rotate(double* a, double* b) {
    double aa = 0, bb = 0, ab = 0;
    for (Index k = 0; k < 3; ++k) aa += a[k] * a[k], bb += b[k] * b[k], ab += a[k] * b[k];
    if (!(std::abs(ab) > 1e-16 * std::sqrt(aa) * std::sqrt(bb))) return false;
    const double zeta = (bb - aa) / (2 * ab);
    const double t = (zeta < 0 ? -1 : 1) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));
    const double c = 1 / std::sqrt(1 + t * t), s = c * t;
    for (Index k = 0; k < 3; ++k) {
        const double x = a[k], y = b[k];
        a[k] = c * x - s * y;
        b[k] = s * x + c * y;
    }
    return true;
}

// P with P² = G Gᵀ: its eigenvectors (rows) and eigenvalues are left singular vectors and values of G, by
// Jacobi's method on one side, exact for small ones too.
struct Root {
    Matrix vectors;
    double values[3];

    explicit Root(const Matrix& g) : vectors(transposed(g)) {
        for (int sweep = 0; sweep < 12; ++sweep) {
            const bool first = rotate(vectors[0], vectors[1]), second = rotate(vectors[0], vectors[2]);
            if (!rotate(vectors[1], vectors[2]) && !first && !second) break;
        }
        for (Index i = 0; i < 3; ++i) {
            double* v = vectors[i];
            values[i] = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
            for (Index k = 0; k < 3; ++k) v[k] /= values[i];
        }
    }

    Matrix inverse() const {
        return transposed(vectors) * each([&](Index i, Index k) { return vectors[i][k] / values[i]; });
    }

    // X with X P + P X = B, for symmetric B.
    Matrix solve(const Matrix& b) const {
        const Matrix turned = vectors * b * transposed(vectors);
        const Matrix x = each([&](Index i, Index j) { return turned[i][j] / (values[i] + values[j]); });
        return transposed(vectors) * x * vectors;
    }
};

// ---- vectors of an atom -------------------------------------------------------------------------

using Rows = std::vector<double>;    // (3, F)

Matrix product(const Rows& a, const Rows& b, Index n) {
    Matrix to;
    for (Index i = 0; i < 3; ++i) {
        const double *x = &a[i * n], *y = &b[0];
        double first = 0, second = 0, third = 0;
#pragma omp simd reduction(+ : first, second, third)
        for (Index f = 0; f < n; ++f) {
            first += x[f] * y[f];
            second += x[f] * y[n + f];
            third += x[f] * y[2 * n + f];
        }
        to[i][0] = first, to[i][1] = second, to[i][2] = third;
    }
    return to;
}

// to = m a, or to += m a.
template <bool more> void apply(const Matrix& m, const Rows& a, Rows& to, Index n) {
    for (Index i = 0; i < 3; ++i)
#pragma GCC ivdep
        for (Index f = 0; f < n; ++f) {
            const double x = m[i][0] * a[f] + m[i][1] * a[n + f] + m[i][2] * a[2 * n + f];
            to[i * n + f] = more ? to[i * n + f] + x : x;
        }
}

void centre(Rows& a, Index n) {
    for (Index i = 0; i < 3; ++i) {
        double* x = &a[i * n];
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (Index f = 0; f < n; ++f) sum += x[f];
        for (Index f = 0; f < n; ++f) x[f] -= sum / n;
    }
}

template <class S> void load(const void* from, Index i, Rows& to) {
    const S* x = static_cast<const S*>(from) + i * to.size();
    for (std::size_t k = 0; k < to.size(); ++k) to[k] = x[k];
}
template <class S> void store(const Rows& from, void* to, Index i) {
    S* x = static_cast<S*>(to) + i * from.size();
    for (std::size_t k = 0; k < from.size(); ++k) x[k] = S(from[k]);
}

template <class S> struct Part {
    const Arguments& a;
    const Index F;
    Rows c, c_t, white, white_t, h, h_t, out;
    Rows weight, weight_t, grad_weight;    // (F,)

    explicit Part(const Arguments& args)
        : a(args), F(args.channels), c(3 * F), c_t(3 * F), white(3 * F), white_t(3 * F), h(3 * F), h_t(3 * F),
          out(3 * F), weight(F), weight_t(F), grad_weight(F) {
        load<S>(a.weight, 0, weight);
        if (a.weight_t) load<S>(a.weight_t, 0, weight_t);
    }

    // The root of A, from a factor of A in two steps: with the first, the vectors are nearly white, and what
    // is left to factor is well conditioned.
    Root root() {
        const double eps = *a.eps, over = 1.0 / F;
        Matrix covariance = over * product(c, c, F);
        for (Index i = 0; i < 3; ++i) covariance[i][i] += eps;
        const double trace = covariance[0][0] + covariance[1][1] + covariance[2][2];
        for (Index i = 0; i < 3; ++i) covariance[i][i] += 1e-14 * trace;
        const Matrix first = cholesky(covariance), inverse = inverse_of_lower(first);
        apply<false>(inverse, c, out, F);
        const Matrix second = cholesky(over * product(out, out, F) + eps * (inverse * transposed(inverse)));
        return Root(first * second);
    }

    void weigh(const Rows& rows, const Rows& by, Rows& to) const {
        for (Index i = 0; i < 3; ++i)
            for (Index f = 0; f < F; ++f) to[i * F + f] = rows[i * F + f] * by[f];
    }

    void sum_weights(const Rows& grad, const Rows& rows) {
        for (Index i = 0; i < 3; ++i)
            for (Index f = 0; f < F; ++f) grad_weight[f] += grad[i * F + f] * rows[i * F + f];
    }

    void atom(Index i) {
        load<S>(a.vec, i, c);
        centre(c, F);
        const Root p = root();
        const Matrix m = p.inverse();
        apply<false>(m, c, white, F);
        if (a.kind == 2) return curvature(i, p, m);
        if (a.kind == 0) {
            weigh(white, weight, out);
            return store<S>(out, a.y, i);
        }
        load<S>(a.grad_y, i, h);
        sum_weights(h, white);
        weigh(h, weight, h);
        const Matrix pulled = symmetric(product(h, c, F));
        const Matrix x = p.solve(-1.0 * (m * pulled * m));    // gradient of A
        apply<false>(m, h, out, F);
        apply<true>(2.0 / F * x, c, out, F);
        centre(out, F);
        store<S>(out, a.grad_vec, i);
    }

    void curvature(Index i, const Root& p, const Matrix& m) {
        const double over = 2.0 / F;
        load<S>(a.vec_t, i, c_t);
        centre(c_t, F);
        const Matrix p_t = p.solve(over * symmetric(product(c_t, c, F))), m_t = -1.0 * (m * p_t * m);
        apply<false>(m, c_t, white_t, F);
        apply<true>(m_t, c, white_t, F);
        weigh(white_t, weight, out);
        for (Index k = 0; k < 3; ++k)
            for (Index f = 0; f < F; ++f) out[k * F + f] += white[k * F + f] * weight_t[f];
        store<S>(out, a.y, i);
        load<S>(a.grad_y, i, h);
        sum_weights(h, white_t);
        weigh(h, weight_t, h_t);
        weigh(h, weight, h);
        const Matrix pulled = symmetric(product(h, c, F));
        const Matrix pulled_t = symmetric(product(h_t, c, F) + product(h, c_t, F));
        const Matrix half = m_t * pulled * m;
        const Matrix x = p.solve(-1.0 * (m * pulled * m));
        const Matrix right = -1.0 * (half + transposed(half) + m * pulled_t * m) - 2.0 * symmetric(p_t * x);
        apply<false>(m_t, h, out, F);
        apply<true>(m, h_t, out, F);
        apply<true>(over * p.solve(right), c, out, F);
        apply<true>(over * x, c_t, out, F);
        centre(out, F);
        store<S>(out, a.grad_vec, i);
    }
};

template <class S> void all(const Arguments& a) {
#pragma omp parallel for num_threads(a.threads)
    for (Index part = 0; part < a.parts; ++part) {
        Part<S> one(a);
        for (Index i = part * a.atoms / a.parts; i < (part + 1) * a.atoms / a.parts; ++i) one.atom(i);
        if (a.grad_weight) store<S>(one.grad_weight, a.grad_weight, part);
    }
    join<S>(a.grad_weight, a.parts, a.channels, a.threads);
}

}  // namespace

// Returns 0, or 1 for an unknown type.
extern "C" int whitened_norm(const Arguments* a) {
    if (a->type == 0) return all<float>(*a), 0;
    if (a->type == 1) return all<double>(*a), 0;
    return 1;
}
