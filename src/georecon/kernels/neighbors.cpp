// Edges and pairs of molecules on CPUs: all atoms of one molecule closer than a cutoff, with a cap on the
// neighbours of each. In two calls, because their number is not known before. The same as `find_edges` of
// graph.py.
//
// Legend: B molecules, N atoms, E edges, P pairs. pos (N, 3).

#include "numbers.h"

namespace {

// What the caller passes; native.py has the same fields in the same order.
struct Arguments {
    Index molecules, threads, most;    // most: neighbours of an atom, itself included
    Index kind;    // 0 counts, 1 edges and pairs
    Index type;    // 0 float, 1 double
    const double* cutoff;
    const void* pos;
    const Index* atoms;                // first of each molecule, (B + 1,)
    Index *rows, *pairs;               // first edge of each atom, (N + 1,), first pair of each molecule, (B + 1,)
    Index *source, *target, *pair;     // (E,)
    Index *first, *second, *ways;      // (P,)
};

template <class S> struct Molecule {
    const Arguments& a;
    const Index start, size;
    std::vector<S> squared;     // distances, (size, size)
    std::vector<char> near;     // [i, j]: whether j is a neighbour of i, (size, size)

    Molecule(const Arguments& args, Index b)
        : a(args), start(a.atoms[b]), size(a.atoms[b + 1] - start), squared(size * size), near(size * size) {
        const S *pos = static_cast<const S*>(a.pos) + 3 * start, limit = S(*a.cutoff * *a.cutoff);
        for (Index i = 0; i < size; ++i)
            for (Index j = 0; j < size; ++j) {
                const S x = pos[3 * i] - pos[3 * j], y = pos[3 * i + 1] - pos[3 * j + 1],
                        z = pos[3 * i + 2] - pos[3 * j + 2];
                squared[i * size + j] = x * x + y * y + z * z;
                near[i * size + j] = squared[i * size + j] < limit;
            }
        if (size > a.most)
            for (Index i = 0; i < size; ++i) cap(i);
    }

    // Only the nearest neighbours of an atom; all of those at the distance of the last.
    void cap(Index i) {
        std::vector<S> sorted;
        for (Index j = 0; j < size; ++j)
            if (near[i * size + j]) sorted.push_back(squared[i * size + j]);
        if (Index(sorted.size()) <= a.most) return;
        std::nth_element(sorted.begin(), sorted.begin() + (a.most - 1), sorted.end());
        for (Index j = 0; j < size; ++j) near[i * size + j] &= squared[i * size + j] <= sorted[a.most - 1];
    }

    // A pair; by distance, then as they come.
    struct Found {
        S squared;
        std::int32_t i, j;
        bool operator<(const Found& other) const {
            return squared != other.squared ? squared < other.squared : i != other.i ? i < other.i : j < other.j;
        }
    };

    bool paired(Index i, Index j) const { return near[i * size + j] || near[j * size + i]; }

    void count(Index b) const {
        Index pairs = 1;    // that of all self loops
        for (Index i = 0; i < size; ++i) {
            a.rows[start + i + 1] = std::count(&near[i * size], &near[i * size] + size, 1);
            for (Index j = i + 1; j < size; ++j) pairs += paired(i, j);
        }
        a.pairs[b + 1] = pairs;
    }

    void write(Index b) const {
        std::vector<Found> found;
        found.reserve(size * (size - 1) / 2);
        for (Index i = 0; i < size; ++i)
            for (Index j = i + 1; j < size; ++j)
                if (paired(i, j)) found.push_back({squared[i * size + j], std::int32_t(i), std::int32_t(j)});
        std::sort(found.begin(), found.end());
        std::vector<Index> place(size * size, a.pairs[b]);
        set(a.pairs[b], 0, 0);
        for (std::size_t k = 0; k < found.size(); ++k) {
            const Index i = found[k].i, j = found[k].j;
            place[i * size + j] = place[j * size + i] = a.pairs[b] + 1 + k;
            set(a.pairs[b] + 1 + k, i, j);
        }
        for (Index i = 0; i < size; ++i)
            for (Index j = 0, edge = a.rows[start + i]; j < size; ++j)
                if (near[i * size + j]) {
                    a.source[edge] = start + j;
                    a.target[edge] = start + i;
                    a.pair[edge++] = place[i * size + j];
                }
    }

    void set(Index pair, Index i, Index j) const {
        a.first[pair] = start + i;
        a.second[pair] = start + j;
        a.ways[pair] = near[i * size + j] + 2 * near[j * size + i];
    }
};

template <class S> void all(const Arguments& a) {
#pragma omp parallel for schedule(dynamic) num_threads(a.threads)
    for (Index b = 0; b < a.molecules; ++b) {
        const Molecule<S> molecule(a, b);
        a.kind == 0 ? molecule.count(b) : molecule.write(b);
    }
    if (a.kind != 0) return;
    a.rows[0] = a.pairs[0] = 0;
    for (Index i = 0; i < a.atoms[a.molecules]; ++i) a.rows[i + 1] += a.rows[i];
    for (Index b = 0; b < a.molecules; ++b) a.pairs[b + 1] += a.pairs[b];
}

}  // namespace

// Returns 0, or 1 for an unknown type.
extern "C" int neighbors(const Arguments* a) {
    if (a->type == 0) return all<float>(*a), 0;
    if (a->type == 1) return all<double>(*a), 0;
    return 1;
}
