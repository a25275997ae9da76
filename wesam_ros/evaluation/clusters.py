"""Euclidean clusters of the points above a support plane, the baseline of tabletop segmentation (Rusu, 2010; simple_grasping, PCL)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from wesam_ros.scene.proposals_relief import Raised

LEAF, TOLERANCE, LEAST_POINTS = 0.005, 0.02, 50
"""Metres of a voxel, metres between neighbours of a cluster, and voxels of the smallest one: PCL's tutorial's tolerance, simple_grasping's
leaf."""


def euclidean_clusters(found: Raised) -> npt.NDArray[np.uint16]:
    """(h, w) at half resolution: 0 = no cluster, else its number from 1."""
    labels = np.zeros(found.raised.shape, np.uint16)
    points = found.points[found.raised]
    if not len(points):
        return labels
    cells, voxel = np.unique(np.floor(points / LEAF).astype(np.int64), axis=0, return_inverse=True)
    pairs = cKDTree(cells * LEAF).query_pairs(TOLERANCE, output_type="ndarray")
    links = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(cells), len(cells)))
    part = connected_components(links, directed=False)[1]
    large = np.bincount(part) >= LEAST_POINTS
    number = np.cumsum(large) * large
    labels[found.raised] = number[part[voxel.ravel()]]
    return labels
