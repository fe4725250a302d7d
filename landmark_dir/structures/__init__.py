"""Named structures: organs, lesions, targets; as label maps, DICOM SEG and RTSTRUCT."""
