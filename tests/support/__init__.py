# SPDX-License-Identifier: Apache-2.0
"""What the daemon and cluster tests share: namespaces, a real cluster, images, nodes, leak checks."""
