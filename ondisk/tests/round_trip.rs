//! What is encoded is what is decoded, for every layout.
use ondisk::*;

fn geometry() -> Geometry {
    Geometry::plan(Uuid::from_u128(7), 8, 6, 512, 4 << 20).unwrap()
}

#[test]
fn superblock_comes_back_and_gives_the_same_geometry() {
    let g = geometry();
    let sb = g.superblock(LockKind::Bakery, Timings::default(), Label::new("lab").unwrap(), 1);
    let mut block = vec![0; 4096];
    sb.encode(0, &mut block);
    let back = Superblock::decode(&block, 0).valid().unwrap();
    assert_eq!(back, sb);
    assert_eq!(Geometry::of(&back).unwrap(), g);
}

#[test]
fn page_header_and_cells_come_back() {
    let g = geometry();
    let place = g.page_copy(SlotIndex(3), 1);
    let mut page = ClientPage { incarnation: Incarnation(3), sequence: 9, ..ClientPage::default() };
    page.volumes = vec![VolumeEntry::of(Uuid::from_u128(1)); 6];
    page.requests.push(Request {
        id: RequestId(1),
        number: 4,
        volume: Uuid::from_u128(1),
        to: SlotIndex(2),
        created_ms: 5,
        message: Message::new("need to fix the titles").unwrap(),
    });
    let mut block = vec![0; g.page_bytes()];
    page.encode(place, &mut block);
    assert_eq!(ClientPage::decode(&block, place, &g).valid().unwrap(), page);

    let mut block = vec![0; g.header_bytes()];
    let header = TableHeader {
        commit: CommitNo { epoch: 4, count: 1 },
        opened: 1,
        clients: 0,
        volumes: 1,
        reaped: vec![Incarnation(0); g.slot_count()],
        cells: vec![CellEntry::new(1, 7, CommitNo { epoch: 4, count: 1 }); g.cell_count()],
    };
    header.encode(g.header_copy(1), &mut block);
    assert_eq!(TableHeader::decode(&block, g.header_copy(1), &g).valid().unwrap(), header);

    let table = VolumeTable {
        name: Name::new("footage").unwrap(),
        uuid: Uuid::from_u128(1),
        identity: Identity {
            fs_uuid: Uuid::from_u128(2),
            partition: Uuid::nil(),
            wwid: Label::default(),
            size: 5,
            enveloped: false,
        },
        fs: FsKind::Xfs,
        readers: ReadersPolicy::Live,
        write_enabled: true,
        device: Message::new("/dev/sdb").unwrap(),
        writer: Some(Grant::new(SlotIndex(1), Incarnation(1), 9, InFlight::ZERO, GrantState::Held)),
        dirty_since: 9,
        next: None,
        last: Generation { epoch: 1, count: 2 },
        modified_ms: 3,
        check_due: true,
        permissions: vec![Permission::default(); 8],
    };
    for t in [None, Some(&table)] {
        let cell = CellId::Volume(VolumeIndex(2));
        let place = g.cell_block(cell, 1, 1);
        let mut block = vec![0; g.cell_bytes(cell)];
        let crc = VolumeTable::encode(t, place, header.commit, &mut block);
        let (back, commit, found) = VolumeTable::decode(&block, place, 8).valid().unwrap();
        assert_eq!((back.as_ref(), commit, found), (t, header.commit, crc));
    }
}
