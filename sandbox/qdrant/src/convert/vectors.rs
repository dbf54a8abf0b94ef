//! Vectors: dense, sparse and multi, unnamed and named.

use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::{
    DenseVector, MultiDenseVector, NamedVectorsOutput, SparseVector, Vector, VectorOutput, Vectors, VectorsOutput,
    vector, vector_output, vectors_output,
};
use qdrant_edge::{DEFAULT_VECTOR_NAME, VectorInternal, VectorPersisted, VectorStructInternal, VectorStructPersisted};

use crate::error::Error;

/// A point's vectors, to store. None is a point without vectors.
pub fn to_engine(vectors: Option<Vectors>) -> Result<VectorStructPersisted, Error> {
    let options = vectors.and_then(|vectors| vectors.vectors_options);
    Ok(match options {
        None => VectorStructPersisted::Named([].into()),
        Some(VectorsOptions::Vector(unnamed)) => match vector(unnamed)? {
            VectorPersisted::Dense(dense) => VectorStructPersisted::Single(dense),
            VectorPersisted::MultiDense(multi) => VectorStructPersisted::MultiDense(multi),
            sparse @ VectorPersisted::Sparse(_) => {
                VectorStructPersisted::Named([(DEFAULT_VECTOR_NAME.to_owned(), sparse)].into())
            }
        },
        Some(VectorsOptions::Vectors(named)) => VectorStructPersisted::Named(
            named.vectors.into_iter().map(|(name, value)| Ok((name, vector(value)?))).collect::<Result<_, Error>>()?,
        ),
    })
}

fn vector(vector: Vector) -> Result<VectorPersisted, Error> {
    match vector.vector {
        Some(vector::Vector::Dense(dense)) => Ok(VectorPersisted::Dense(dense.data)),
        Some(vector::Vector::Sparse(sparse)) => sparse_vector(sparse),
        Some(vector::Vector::MultiDense(multi)) => {
            Ok(VectorPersisted::MultiDense(multi.vectors.into_iter().map(|dense| dense.data).collect()))
        }
        Some(vector::Vector::Document(_) | vector::Vector::Image(_) | vector::Vector::Object(_)) => {
            Err(Error::Unimplemented("inference".to_owned()))
        }
        None => flat_vector(vector),
    }
}

/// The older form, which the client's conversions still write: one list of numbers, and how to
/// read it.
#[allow(deprecated)]
fn flat_vector(vector: Vector) -> Result<VectorPersisted, Error> {
    match (vector.indices, vector.vectors_count) {
        (Some(indices), _) => sparse_vector(SparseVector { values: vector.data, indices: indices.data }),
        (None, Some(count)) => {
            let count = count as usize;
            if count == 0 || vector.data.is_empty() || !vector.data.len().is_multiple_of(count) {
                return Err(Error::BadInput(format!("{} numbers are not {count} vectors", vector.data.len())));
            }
            let size = vector.data.len() / count;
            Ok(VectorPersisted::MultiDense(vector.data.chunks(size).map(<[f32]>::to_vec).collect()))
        }
        (None, None) => Ok(VectorPersisted::Dense(vector.data)),
    }
}

/// The engine wants the indices sorted.
fn sparse_vector(sparse: SparseVector) -> Result<VectorPersisted, Error> {
    if sparse.indices.len() != sparse.values.len() {
        return Err(Error::invalid_field("indices", "must be the same length as values"));
    }
    let mut elements: Vec<_> = sparse.indices.into_iter().zip(sparse.values).collect();
    elements.sort_by_key(|(index, _)| *index);
    if elements.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Error::invalid_field("indices", "must be unique"));
    }
    let (indices, values) = elements.into_iter().unzip();
    Ok(VectorPersisted::new_sparse(indices, values))
}

/// A point's vectors, as read.
pub fn to_grpc(vectors: VectorStructInternal) -> VectorsOutput {
    let options = match vectors {
        VectorStructInternal::Single(dense) => {
            vectors_output::VectorsOptions::Vector(output(VectorInternal::Dense(dense)))
        }
        VectorStructInternal::MultiDense(multi) => {
            vectors_output::VectorsOptions::Vector(output(VectorInternal::MultiDense(multi)))
        }
        VectorStructInternal::Named(named) => vectors_output::VectorsOptions::Vectors(NamedVectorsOutput {
            vectors: named.into_iter().map(|(name, vector)| (name, output(vector))).collect(),
        }),
    };
    VectorsOutput { vectors_options: Some(options) }
}

fn output(vector: VectorInternal) -> VectorOutput {
    let vector = match vector {
        VectorInternal::Dense(data) => vector_output::Vector::Dense(DenseVector { data }),
        VectorInternal::Sparse(sparse) => {
            vector_output::Vector::Sparse(SparseVector { values: sparse.values, indices: sparse.indices })
        }
        VectorInternal::MultiDense(multi) => vector_output::Vector::MultiDense(MultiDenseVector {
            vectors: multi.into_multi_vectors().into_iter().map(|data| DenseVector { data }).collect(),
        }),
    };
    VectorOutput { vector: Some(vector), ..VectorOutput::default() }
}
