// A disc of radius 1.5 around the origin, for models without walls of a box. Make the mesh with: gmsh -2 disc.geo
SetFactory("OpenCASCADE");
h = 0.1;
Disk(1) = {0, 0, 0, 1.5, 1.5};
Physical Surface("disc") = {1};
Mesh.CharacteristicLengthMin = h;
Mesh.CharacteristicLengthMax = h;
