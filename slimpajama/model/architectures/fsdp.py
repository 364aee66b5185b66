"""A model cut among several processes: FSDP2, which torch calls `fully_shard`.

Each process keeps its share of every parameter, gradient and optimiser state as a DTensor. A block's weights are
gathered while it computes and let go afterwards; the rest, mostly embeddings, stands whole from the forward to the
backward pass. Works with gloo on CPUs and with NCCL on GPUs.
"""

from typing import Any

from torch import Tensor, distributed, nn

from slimpajama.model.architectures.base import LanguageModel
from slimpajama.model.architectures.layers import Block
from slimpajama.model.device import device


def shard(model: LanguageModel) -> None:
    """Leave of each parameter this process's share, on its device; before an optimiser is made of them.

    Every process of the group has to take part in each forward and backward pass from here on, and in `whole`.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
    from torch.distributed.tensor import Shard

    mesh = init_device_mesh(device().type, (distributed.get_world_size(),))

    def place(parameter: nn.Parameter) -> Shard:
        """Cut stacks across their matrices: most are of one matrix. Only dimension 0 may be cut unevenly."""
        across = (1, 2) if parameter.ndim == 3 else ()
        return Shard(next((dim for dim in across if parameter.size(dim) % mesh.size() == 0), 0))

    for owner in model.modules():
        for name, parameter in list(owner.named_parameters(recurse=False)):
            # FSDP takes no scalars; `whole` undoes it.
            if not parameter.ndim:
                setattr(owner, name, nn.Parameter(parameter.detach()[None]))
    for module in model.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh, shard_placement_fn=place)
    fully_shard(model, mesh=mesh, shard_placement_fn=place)
    register_fsdp_forward_method(model, "states")  # as `forward`: it gathers


def is_share(tensor: Any) -> bool:
    """Say whether it is a process's share; asked by a method, because importing DTensor takes a second."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Return what the processes hold together; a tensor that is not shared out, as it is."""
    if not is_share(tensor):
        return tensor
    full: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return full[0] if full.shape == (1,) else full


def share_of(tensor: Tensor, like: Any) -> Tensor:
    """Return this process's share of a whole tensor, cut `like` another; the whole where that is not cut."""
    if not is_share(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mine = tensor.to(like.device).view(like.shape)
    return distribute_tensor(mine, like.device_mesh, like.placements, src_data_rank=None)  # nothing is sent
